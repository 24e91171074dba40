"""Radio catalogues from VizieR (Ochsenbein, Bauer and Marcout 2000, A&AS 143, 23) by TAP."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.errors import RetryableError, UsageError
from dsa110_contimg.sky.catalogue_import import flag_limit
from dsa110_contimg.sky.catalogue_positions import distinct
from dsa110_contimg.sky.catalogues import Catalogue, shapes_of
from dsa110_contimg.sky.table_files import texts

if TYPE_CHECKING:
    from astropy.table import Table

SERVICE = "https://tapvizier.cds.unistra.fr/TAPVizieR/tap"
_BAND_DEG = 15.0
_SMALLEST_BAND_DEG = 0.05
_MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Survey:
    """A catalogue of VizieR.

    Attributes
    ----------
    table : str
    flux_column : str
        Integrated flux density, mJy.
    frequency_hz : float
    lowest_dec_deg, highest_dec_deg : float
    shape_columns : tuple of str
        Full widths at half maximum without the beam in arcsec, and the position angle in degrees;
        empty if the table has none.
    limit_columns : tuple of str
        Columns that hold "<" where an axis is an upper limit.
    has_flags : bool
        True if the table has columns that flag duplicates and detections of low quality.
    """

    table: str
    flux_column: str
    frequency_hz: float
    lowest_dec_deg: float
    highest_dec_deg: float
    shape_columns: tuple[str, ...] = ()
    limit_columns: tuple[str, ...] = ()
    has_flags: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """What is asked for."""
        numbers = ("RAJ2000", "DEJ2000", self.flux_column, *self.shape_columns)
        return numbers + self.limit_columns


SURVEYS = {
    "nvss": Survey(
        "VIII/65/nvss",
        "S1.4",
        1.4e9,
        -40.5,
        90.0,
        ("MajAxis", "MinAxis", "PA"),
        ("l_MajAxis", "l_MinAxis"),
    ),
    "first": Survey("VIII/92/first14", "Fint", 1.4e9, -12.0, 66.0, ("Maj", "Min", "PA")),
    "racs": Survey("J/other/PASA/38.58/galcut", "Ftot", 887.5e6, -90.0, 31.0),
    "vlass": Survey(
        "J/ApJS/255/30/comp", "Ftot", 3.0e9, -40.5, 90.0, ("DCMaj", "DCMin", "DCPA"), has_flags=True
    ),
    "sumss": Survey(
        "VIII/81B/sumss212", "St", 843e6, -90.0, -29.0, ("dMajAxis", "dMinAxis", "dPA")
    ),
}


def fetch(
    name: str,
    min_flux_jy: float,
    dec_low_deg: float = -90.0,
    dec_high_deg: float = 90.0,
    service: str = SERVICE,
) -> Catalogue:
    """Fetch a survey's sources.

    Parameters
    ----------
    name : str
        One of `SURVEYS`.
    min_flux_jy : float
    dec_low_deg, dec_high_deg : float
    service : str
        Address of a TAP service that has VizieR's tables.

    Raises
    ------
    UsageError
        For an unknown survey, or an empty strip.
    RetryableError
        If the service does not answer.
    """
    if name not in SURVEYS:
        raise UsageError(f"survey {name!r} is not known; choose one of {', '.join(SURVEYS)}")
    survey = SURVEYS[name]
    low = max(dec_low_deg, survey.lowest_dec_deg)
    high = min(dec_high_deg, survey.highest_dec_deg)
    edges = np.append(np.arange(low, high, _BAND_DEG), high)
    flags = _flag_conditions(service, survey) if survey.has_flags else ""
    parts = [
        rows
        for first, last in pairwise(edges)
        for rows in _band(service, survey, flags, min_flux_jy, float(first), float(last))
    ]
    table = np.concatenate(parts) if parts else np.zeros((0, 6))
    if len(table) == 0:
        raise UsageError(
            f"{name} has no source of {1e3 * min_flux_jy:g} mJy between declinations {low:g} and "
            f"{high:g} degrees"
        )
    # A source on the border of two bands comes with both.
    table = np.unique(table, axis=0)
    table = table[distinct(table[:, 0], table[:, 1])]
    order = np.argsort(table[:, 1], kind="stable")
    ra, dec, flux_mjy, major, minor, angle = table[order].T
    return Catalogue(
        name, survey.frequency_hz, ra % 360, dec, flux_mjy / 1e3, shapes_of(major, minor, angle)
    )


def _flag_conditions(service: str, survey: Survey) -> str:
    """Conditions on the flag columns, whose names the service gives."""
    table, _ = _ask(service, f'SELECT TOP 1 * FROM "{survey.table}"')
    limits = {name: flag_limit(name) for name in table.colnames}
    return "".join(
        f' AND "{name}" <= {limit}' for name, limit in limits.items() if limit is not None
    )


def _ask(service: str, query: str) -> "tuple[Table, bool]":
    """Answer of a TAP service, and whether it held rows back.

    Raises
    ------
    RetryableError
    """
    from pyvo.dal import DALServiceError, TAPService
    from pyvo.dal.exceptions import DALFormatError, DALQueryError
    from requests import RequestException

    try:
        with warnings.catch_warnings():
            # Of units that other catalogues write in their own way, and of rows held back.
            warnings.simplefilter("ignore")
            result = TAPService(service).run_sync(query, maxrec=_MOST_ROWS)
            return result.to_table(), result.status[0] == "OVERFLOW"
    except (RequestException, DALServiceError, DALFormatError, DALQueryError, OSError) as error:
        raise RetryableError(
            f"{service}: does not answer ({error}); try again with a network, or import a file "
            "that you have with 'dsa110-contimg catalog import FILE --name NAME'"
        ) from error


def _band(
    service: str, survey: Survey, flags: str, min_flux_jy: float, low_deg: float, high_deg: float
) -> Iterator[np.ndarray]:
    """Rows of a declination band, in halves if the service gives no more at once.

    Yields
    ------
    ndarray, shape (nrow, 6)
        Right ascension, declination (deg), flux density (mJy), axes (arcsec) and position angle
        (deg) of the Gaussian; zero where the source is a point.
    """
    flux = f'"{survey.flux_column}"'
    query = (
        f"SELECT {', '.join(_quoted(survey.columns))} "
        f'FROM "{survey.table}" WHERE {flux} >= '
        f'{1e3 * min_flux_jy:.6g} AND "DEJ2000" BETWEEN {low_deg:.6f} AND {high_deg:.6f}{flags}'
    )
    table, held_back = _ask(service, query)
    if held_back and high_deg - low_deg > _SMALLEST_BAND_DEG:
        middle = (low_deg + high_deg) / 2
        yield from _band(service, survey, flags, min_flux_jy, low_deg, middle)
        yield from _band(service, survey, flags, min_flux_jy, middle, high_deg)
        return
    # Services rename columns; the order is that of the query.
    named = dict(zip(survey.columns, table.colnames, strict=True))
    rows = np.zeros((len(table), 6))
    for k, column in enumerate(survey.columns[: 3 + len(survey.shape_columns)]):
        rows[:, k] = np.ma.filled(table[named[column]].astype(float), np.nan)
    for k, column in enumerate(survey.limit_columns):
        limits = texts(table[named[column]])
        rows[limits == "<", 3 + k] = 0
    rows[:, 3:] = np.nan_to_num(rows[:, 3:])
    yield rows[np.isfinite(rows).all(axis=1)]


def _quoted(columns: tuple[str, ...]) -> list[str]:
    return [f'"{column}"' for column in columns]
