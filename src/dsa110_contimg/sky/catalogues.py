"""Source catalogues: import, storage and search.

A catalogue is one FITS table under the root's `catalogues/`, sorted by declination with
the columns and units of `Catalogue`, so that any other program reads it too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg import layout
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.durable import replacing
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.shapes import POINTS, Shapes

if TYPE_CHECKING:
    from astropy.table import Table

DEFAULT_SPECTRAL_INDEX = -0.7
"""Median of extragalactic sources at 1.4 GHz (Condon 1992, ARA&A 30, 575)."""
_SHAPE_COLUMNS = ("major_arcsec", "minor_arcsec", "angle_deg")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Sources with total flux densities at one frequency, sorted by declination.

    Attributes
    ----------
    name : str
    frequency_hz : float
    ra_deg, dec_deg : ndarray, shape (nsource,)
        ICRS.
    flux_jy : ndarray, shape (nsource,)
        Integrated flux density.
    shapes : Shapes
        Without the survey's beam; all are taken for points if it tells no sizes.
    """

    name: str
    frequency_hz: float
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    shapes: Shapes = POINTS

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> "Catalogue":
        """Sources within a radius; the declination strip is found by bisection."""
        first, last = np.searchsorted(self.dec_deg, [dec_deg - radius_deg, dec_deg + radius_deg])
        strip = slice(int(first), int(last))
        centre = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
        vectors = astrometry.radec_to_vector(
            np.deg2rad(self.ra_deg[strip]), np.deg2rad(self.dec_deg[strip])
        )
        near = first + np.flatnonzero(vectors @ centre >= np.cos(np.deg2rad(radius_deg)))
        return self.subset(near)

    def between(self, first_deg: float, last_deg: float) -> "Catalogue":
        """Sources of a declination strip."""
        first, last = np.searchsorted(self.dec_deg, [first_deg, last_deg])
        return self.subset(np.arange(first, last))

    def brighter_than(self, flux_jy: float) -> "Catalogue":
        """Sources of at least a flux density."""
        return self.subset(np.flatnonzero(self.flux_jy >= flux_jy))

    def subset(self, index: np.ndarray) -> "Catalogue":
        """Sources by their numbers, which must ascend."""
        return Catalogue(
            self.name,
            self.frequency_hz,
            self.ra_deg[index],
            self.dec_deg[index],
            self.flux_jy[index],
            self.shapes.select(index),
        )

    def __len__(self) -> int:
        return self.ra_deg.size


@dataclass(frozen=True)
class ColumnMap:
    """How a file's columns become a catalogue.

    Attributes
    ----------
    ra, dec, flux : str
        Column names; positions in degrees.
    flux_to_jy : float or None
        Factor from the column's number to integrated Jy; None for what the file says.
    frequency_hz : float
    peak : bool
        Take a column of peaks for the flux densities of compact sources.
    major, minor, angle : str or None
        Columns of the full widths at half maximum without the survey's beam, and of the position
        angle; None if there are none.
    """

    ra: str
    dec: str
    flux: str
    flux_to_jy: float | None
    frequency_hz: float
    peak: bool = False
    major: str | None = None
    minor: str | None = None
    angle: str | None = None

    @property
    def shape(self) -> tuple[str, ...]:
        """Columns of the sizes; none, or all three."""
        columns = (self.major, self.minor, self.angle)
        return tuple(column for column in columns if column is not None)


KNOWN_FORMATS: Mapping[str, ColumnMap] = {
    # The raw NVSS component list stores the fitted peak before the bias and CLEAN
    # corrections; the published flux density is lower by 1.028 (Condon et al. 1998).
    "NVSS component list": ColumnMap("RA(2000)", "DEC(2000)", "PEAK INT", 1 / 1.028, 1.4e9)
}


def read_file(path: Path, name: str, columns: ColumnMap | None = None) -> Catalogue:
    """Read a catalogue from FITS, VOTable or CSV.

    Parameters
    ----------
    path : Path
    name : str
        Name of the catalogue from now on.
    columns : ColumnMap, optional
        Which columns to use; without it the file must be of a known format, or have
        columns ra_deg, dec_deg and flux_jy.

    Raises
    ------
    BadInputError, UsageError
    """
    if not _NAME.match(name):
        raise UsageError(f"catalogue name {name!r}: use letters, digits, '_', '.', '-' only")
    table = _read_table(path)
    if columns is None:
        columns = _recognise(path, table)
    wanted = (columns.ra, columns.dec, columns.flux, *columns.shape)
    absent = [c for c in wanted if c not in table.colnames]
    if absent:
        raise BadInputError(
            f"{path}: has no column {', '.join(absent)}; it has {', '.join(table.colnames[:12])}"
        )
    try:
        ra, dec, flux = (_numbers(table[c]) for c in (columns.ra, columns.dec, columns.flux))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{path}: a column holds no numbers ({error})") from error
    flux = flux * _factor(path, columns, str(table[columns.flux].unit or ""))
    good = np.isfinite(ra) & np.isfinite(dec) & (flux > 0) & (np.abs(dec) <= 90)
    if not good.any():
        raise BadInputError(f"{path}: no row has a position and a positive flux density")
    order = np.flatnonzero(good)[np.argsort(dec[good], kind="stable")]
    shapes = _shapes(path, table, columns).select(order)
    return Catalogue(name, columns.frequency_hz, ra[order] % 360, dec[order], flux[order], shapes)


def shapes_of(major_arcsec: np.ndarray, minor_arcsec: np.ndarray, angle_deg: np.ndarray) -> Shapes:
    """Shapes of columns in which points have no size, or zero.

    A source with a major axis alone is a line.
    """
    major = np.where(major_arcsec > 0, major_arcsec, 0.0)
    minor = np.clip(np.where(minor_arcsec > 0, minor_arcsec, 0.0), 0.0, major)
    if not major.any():
        return POINTS
    angle = np.where(np.isfinite(angle_deg), angle_deg, 0.0)
    return Shapes(major * ARCSEC_RAD, minor * ARCSEC_RAD, np.deg2rad(angle % 180))


def _shapes(path: Path, table: "Table", columns: ColumnMap) -> Shapes:
    """Read the columns of sizes, in arcsec where they have no unit."""
    from astropy import units

    if not columns.shape:
        return POINTS
    found = []
    for name, unit in zip(columns.shape, (units.arcsec, units.arcsec, units.deg), strict=True):
        values = _numbers(table[name])
        if table[name].unit is not None:
            try:
                values = (values * table[name].unit).to_value(unit)
            except (units.UnitConversionError, TypeError) as error:
                raise BadInputError(
                    f"{path}: column {name} is in {table[name].unit}, which is no angle"
                ) from error
        found.append(values)
    return shapes_of(*found)


def jansky_per(unit: str) -> float:
    """Jansky in a unit of flux density, per beam or not.

    Raises
    ------
    UsageError
    """
    known = {"jy": 1.0, "mjy": 1e-3, "ujy": 1e-6, "\u00b5jy": 1e-6}
    bare = unit.lower().replace(" ", "").removesuffix("/beam").removesuffix("beam-1")
    if bare not in known:
        raise UsageError(f"unit {unit!r}: give Jy, mJy or uJy")
    return known[bare]


def _factor(path: Path, columns: ColumnMap, unit: str) -> float:
    """From the column's numbers to Jy."""
    if columns.flux_to_jy is None and not unit:
        raise UsageError(
            f"{path}: does not say the unit of {columns.flux}; say it with --flux-unit"
        )
    if "beam" in unit.lower() and not columns.peak and columns not in KNOWN_FORMATS.values():
        raise UsageError(
            f"{path}: {columns.flux} is in {unit}, a peak; give a column of integrated flux "
            "density, or --peak to take it for compact sources"
        )
    return columns.flux_to_jy if columns.flux_to_jy is not None else jansky_per(unit)


def _read_table(path: Path):  # type: ignore[no-untyped-def]
    import warnings

    from astropy.table import Table
    from astropy.units import UnitsWarning

    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    formats = {
        ".fits": "fits",
        ".fit": "fits",
        ".vot": "votable",
        ".xml": "votable",
        ".csv": "ascii.csv",
    }
    kind = formats.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise UsageError(f"{path}: give a .fits, .vot, .xml or .csv file (.gz allowed)")
    with warnings.catch_warnings():
        # Old FITS files name units that are no FITS units ('DEGREE'); units are not used here.
        warnings.simplefilter("ignore", UnitsWarning)
        try:
            return Table.read(path, format=kind)
        except (OSError, ValueError, IndexError) as error:
            raise BadInputError(f"{path}: cannot be read as {kind} ({error})") from error


def read_columns(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Columns of numbers of a table; rows where one of them is missing are left out.

    Raises
    ------
    BadInputError
        If it cannot be read, or a column is missing.
    """
    if not path.is_file():
        raise BadInputError(f"{path}: there is no such file")
    table = _read_table(path)
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise BadInputError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(table.colnames[:12])}"
        )
    columns = np.array([_numbers(table[name]) for name in names])
    return list(columns[:, np.isfinite(columns).all(axis=0)])


def _numbers(column) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Values of a table column as floats, NaN where masked."""
    values = column.astype(float)
    return np.asarray(values.filled(np.nan) if hasattr(values, "filled") else values)


def _recognise(path: Path, table) -> ColumnMap:  # type: ignore[no-untyped-def]
    sizes = _SHAPE_COLUMNS if set(_SHAPE_COLUMNS) <= set(table.colnames) else (None, None, None)
    frequency_hz = table.meta.get("FREQ", 1.4e9)
    own = ColumnMap("ra_deg", "dec_deg", "flux_jy", 1.0, frequency_hz, False, *sizes)
    for columns in (*KNOWN_FORMATS.values(), own):
        if {columns.ra, columns.dec, columns.flux} <= set(table.colnames):
            return columns
    raise BadInputError(
        f"{path}: columns {', '.join(table.colnames[:12])} are of no known catalogue; "
        "say which to use with --ra, --dec and --flux"
    )


def catalogue_path(root: Path, name: str) -> Path:
    """Where a catalogue of a name lies."""
    return layout.catalogues(root) / f"{name}.fits"


def save(root: Path, catalogue: Catalogue) -> Path:
    """Store a catalogue under the root, replacing one of the same name at once."""
    path = catalogue_path(root, catalogue.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        table_of(catalogue).write(part, format="fits")
    return path


def table_of(catalogue: Catalogue) -> "Table":
    """The astropy table of a catalogue, with units."""
    from astropy.table import Table

    table = Table(
        [catalogue.ra_deg, catalogue.dec_deg, catalogue.flux_jy],
        names=("ra_deg", "dec_deg", "flux_jy"),
        units=("deg", "deg", "Jy"),
        meta={"NAME": catalogue.name, "FREQ": catalogue.frequency_hz},
    )
    shapes = catalogue.shapes
    if shapes.major_rad.size > 0:
        sizes = (
            shapes.major_rad / ARCSEC_RAD,
            shapes.minor_rad / ARCSEC_RAD,
            np.rad2deg(shapes.angle_rad),
        )
        for column, values, unit in zip(
            _SHAPE_COLUMNS, sizes, ("arcsec", "arcsec", "deg"), strict=True
        ):
            table[column] = values
            table[column].unit = unit
    return table


def load(root: Path, name: str) -> Catalogue:
    """Load a stored catalogue.

    Raises
    ------
    UsageError
        If there is none of that name; says how to get one.
    """
    path = catalogue_path(root, name)
    if not path.exists():
        have = ", ".join(names(root)) or "none"
        raise UsageError(
            f"no catalogue {name!r} under {path.parent} (there: {have}); get it with "
            f"'dsa110-contimg catalog fetch {name}' or 'dsa110-contimg catalog import FILE "
            f"--name {name}'"
        )
    from astropy.io import fits

    with fits.open(path) as hdus:
        header, table = hdus[1].header, hdus[1].data
        ra, dec, flux = (np.array(table[c], float) for c in ("ra_deg", "dec_deg", "flux_jy"))
        shapes = POINTS
        if _SHAPE_COLUMNS[0] in table.columns.names:
            shapes = shapes_of(*(np.array(table[c], float) for c in _SHAPE_COLUMNS))
        return Catalogue(name, float(header["FREQ"]), ra, dec, flux, shapes)


def names(root: Path) -> list[str]:
    """Names of the stored catalogues."""
    return sorted(path.stem for path in layout.catalogues(root).glob("*.fits"))
