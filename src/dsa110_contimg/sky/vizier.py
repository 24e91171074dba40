"""Radio catalogues from VizieR (Ochsenbein, Bauer and Marcout 2000, A&AS 143, 23) by TAP."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dsa110_contimg.errors import RetryableError, UsageError
from dsa110_contimg.sky.catalogues import Catalogue

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
    """

    table: str
    flux_column: str
    frequency_hz: float
    lowest_dec_deg: float
    highest_dec_deg: float


SURVEYS = {
    "nvss": Survey("VIII/65/nvss", "S1.4", 1.4e9, -40.5, 90.0),
    "first": Survey("VIII/92/first14", "Fint", 1.4e9, -12.0, 66.0),
    "racs": Survey("J/other/PASA/38.58/galcut", "Ftot", 887.5e6, -90.0, 31.0),
    "vlass": Survey("J/ApJS/255/30/comp", "Ftot", 3.0e9, -40.5, 90.0),
    "sumss": Survey("VIII/81B/sumss212", "St", 843e6, -90.0, -29.0),
}


def fetch(
    name: str, min_flux_jy: float, dec_low_deg: float = -90.0, dec_high_deg: float = 90.0,
    service: str = SERVICE,
) -> Catalogue:  # fmt: skip
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
    parts = [
        rows
        for first, last in pairwise(edges)
        for rows in _band(service, survey, min_flux_jy, float(first), float(last))
    ]
    table = np.concatenate(parts) if parts else np.zeros((0, 3))
    if len(table) == 0:
        raise UsageError(
            f"{name} has no source of {1e3 * min_flux_jy:g} mJy between declinations {low:g} and "
            f"{high:g} degrees"
        )
    # A source on the border of two bands comes with both.
    table = np.unique(table, axis=0)
    order = np.argsort(table[:, 1], kind="stable")
    ra, dec, flux_mjy = table[order].T
    return Catalogue(name, survey.frequency_hz, ra % 360, dec, flux_mjy / 1e3)


def _band(
    service: str, survey: Survey, min_flux_jy: float, low_deg: float, high_deg: float
) -> Iterator[np.ndarray]:
    """Rows of a declination band, in halves if the service gives no more at once."""
    from pyvo.dal import DALServiceError, TAPService
    from pyvo.dal.exceptions import DALFormatError, DALQueryError
    from requests import RequestException

    flux = f'"{survey.flux_column}"'
    query = (
        f'SELECT "RAJ2000", "DEJ2000", {flux} FROM "{survey.table}" WHERE {flux} >= '
        f'{1e3 * min_flux_jy:.6g} AND "DEJ2000" BETWEEN {low_deg:.6f} AND {high_deg:.6f}'
    )
    try:
        with warnings.catch_warnings():
            # Of units that other catalogues write in their own way, and of rows held back.
            warnings.simplefilter("ignore")
            result = TAPService(service).run_sync(query, maxrec=_MOST_ROWS)
            table = result.to_table()
    except (RequestException, DALServiceError, DALFormatError, DALQueryError, OSError) as error:
        raise RetryableError(
            f"{service}: does not answer ({error}); try again with a network, or import a file "
            "that you have with 'dsa110-contimg catalog import FILE --name NAME'"
        ) from error
    if result.status[0] == "OVERFLOW" and high_deg - low_deg > _SMALLEST_BAND_DEG:
        middle = (low_deg + high_deg) / 2
        yield from _band(service, survey, min_flux_jy, low_deg, middle)
        yield from _band(service, survey, min_flux_jy, middle, high_deg)
        return
    columns = [np.ma.filled(table[name].astype(float), np.nan) for name in table.colnames[:3]]
    rows = np.stack(columns, axis=1) if len(table) else np.zeros((0, 3))
    yield rows[np.isfinite(rows).all(axis=1)]
