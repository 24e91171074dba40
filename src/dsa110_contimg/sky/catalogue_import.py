"""Make a catalogue of a file of another program: units, frames, blanks, flags and duplicates."""

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import astrometry, table_files
from dsa110_contimg.sky.catalogues import SHAPE_COLUMNS, Catalogue, shapes_of
from dsa110_contimg.sky.options import ImportOptions
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.sky.table_files import TableFile

if TYPE_CHECKING:
    from astropy import units
    from astropy.coordinates import BaseCoordinateFrame
    from astropy.table import Table

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_DEFAULT_HZ = 1.4e9
_LOWEST_HZ, _HIGHEST_HZ = 1e6, 1e12
"""What lies beyond is in another unit."""
_SEXAGESIMAL = re.compile(r"^([+-]?) *(\d{1,3})[ :] *([0-5]?\d)[ :] *([0-5]?\d(?:\.\d*)?)$")
_TWICE_ARCSEC = 1.0
"""Two rows nearer than this are one source: no survey of this band separates them."""
_FRAMES = {
    "icrs": "icrs",
    "fk5": "fk5",
    "eq_fk5": "fk5",
    "j2000": "fk5",
    "fk4": "fk4",
    "eq_fk4": "fk4",
    "b1950": "fk4",
    "galactic": "galactic",
    "gal": "galactic",
}
_HOURS_MAX, _HOURS_SPAN, _HOURS_ROWS = 24.0, 12.0, 20


@dataclass(frozen=True)
class ColumnMap:
    """How a file's columns become a catalogue.

    Attributes
    ----------
    ra, dec, flux : str
        Names of the columns.
    flux_to_jy : float or None
        Factor from the column's number to integrated Jy; None for what the file states.
    frequency_hz : float or None
        None for what the file states.
    peak : bool
        Take a column of peaks for the flux densities of compact sources.
    flux_per_beam : bool
        The stated unit is one per beam.
    major, minor, angle : str or None
        Columns of the full widths at half maximum without the survey's beam, and of the position
        angle; None if there are none.
    position_unit : str or None
        Unit of the positions, hours for right ascensions in hours and declinations in degrees;
        None for what the file states, degrees where it states none.
    frame : str or None
        Frame of the positions; None for what the file states, ICRS where it states none.
    """

    ra: str
    dec: str
    flux: str
    flux_to_jy: float | None = None
    frequency_hz: float | None = None
    peak: bool = False
    flux_per_beam: bool = False
    major: str | None = None
    minor: str | None = None
    angle: str | None = None
    position_unit: str | None = None
    frame: str | None = None

    @property
    def shape(self) -> tuple[str, ...]:
        """Columns of the sizes; none, or all three."""
        columns = (self.major, self.minor, self.angle)
        return tuple(column for column in columns if column is not None)

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (self.ra, self.dec, self.flux, *self.shape)


@dataclass(frozen=True)
class ImportedCatalogue:
    """A catalogue made of a file.

    Attributes
    ----------
    catalogue : Catalogue
    notes : tuple of str
        What was assumed, and which rows were left out.
    """

    catalogue: Catalogue
    notes: tuple[str, ...]


KNOWN_FORMATS: Mapping[str, ColumnMap] = {
    # The raw NVSS component list stores the fitted peak before the bias and CLEAN
    # corrections; the published flux density is lower by 1.028 (Condon et al. 1998).
    "NVSS component list": ColumnMap("RA(2000)", "DEC(2000)", "PEAK INT", 1 / 1.028, 1.4e9, True)
}


def read_file(path: Path, name: str, options: ImportOptions | None = None) -> ImportedCatalogue:
    """Read a catalogue from FITS, VOTable, ECSV, Parquet or text.

    Parameters
    ----------
    path : Path
    name : str
        Name of the catalogue from now on.
    options : ImportOptions, optional
        Which columns to use, and what the file does not state or states wrongly. Without columns
        the file must be of a known format, or have columns ra_deg, dec_deg and flux_jy.

    Raises
    ------
    BadInputError, UsageError
    """
    if not _NAME.match(name):
        raise UsageError(f"catalogue name {name!r}: use letters, digits, '_', '.', '-' only")
    options = options or ImportOptions()
    given = _given_columns(options)

    def serves(names: Collection[str]) -> bool:
        return _columns_in(names, given) is not None

    file = table_files.read(path, serves)
    columns = _columns_in(file.table.colnames, given)
    if columns is None:
        raise BadInputError(f"{path}: {_no_columns(file.table.colnames, given)}")
    columns = _as_stated(columns, options)
    notes: list[str] = []
    good = _not_flagged(file, notes)
    ra_deg, dec_deg, north_deg = _positions(path, file, columns)
    flux_jy = _flux_jy(path, file, columns)
    frequency_hz = _frequency_hz(path, file, columns, notes)
    there = np.isfinite(ra_deg) & np.isfinite(dec_deg)
    _count(notes, good & ~there, "have no position")
    good &= there
    with np.errstate(invalid="ignore"):
        positive = np.isfinite(flux_jy) & (flux_jy > 0)
    _count(notes, good & ~positive, "have no positive flux density")
    good &= positive
    if not good.any():
        raise BadInputError(
            f"{path}: no row has a position and a positive flux density"
            + (f" ({'; '.join(notes)})" if notes else "")
        )
    index = np.flatnonzero(good)
    index = index[_first_of_each(ra_deg[index], dec_deg[index], notes)]
    order = index[np.argsort(dec_deg[index], kind="stable")]
    shapes = _shapes(path, file, columns, north_deg).select(order)
    catalogue = Catalogue(
        name, frequency_hz, ra_deg[order] % 360, dec_deg[order], flux_jy[order], shapes
    )
    return ImportedCatalogue(catalogue, tuple(notes))


def read_columns(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Columns of numbers of a table; rows where one of them is missing are left out.

    Raises
    ------
    BadInputError
        If it cannot be read, or a column is missing.
    """
    table = table_files.read(path, lambda there: set(names) <= set(there)).table
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise BadInputError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(table.colnames[:12])}"
        )
    columns = np.array([_numbers(path, table, name) for name in names])
    return list(columns[:, np.isfinite(columns).all(axis=0)])


def distinct(
    ra_deg: np.ndarray, dec_deg: np.ndarray, radius_arcsec: float = _TWICE_ARCSEC
) -> np.ndarray:
    """Indices, ascending, of the positions that have no earlier one within a radius."""
    from scipy.spatial import KDTree

    vectors = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
    if len(vectors) < 2:
        return np.arange(len(vectors))
    pairs = KDTree(vectors).query_pairs(radius_arcsec * ARCSEC_RAD, output_type="ndarray")
    dropped = np.zeros(len(vectors), bool)
    for first, second in pairs[np.lexsort(pairs.T[::-1])]:
        if not dropped[first]:
            dropped[second] = True
    return np.flatnonzero(~dropped)


def jansky_per(unit: str) -> float:
    """Jansky in a unit of flux density, per beam or not.

    Raises
    ------
    UsageError
    """
    try:
        return _flux_unit(table_files.parse_unit(unit))[0]
    except ValueError as error:
        raise UsageError(f"unit {unit!r}: give Jy, mJy or uJy") from error


def _given_columns(options: ImportOptions) -> ColumnMap | None:
    """Columns that the user named; None if the file is to say."""
    place = (options.ra, options.dec, options.flux)
    sizes = (options.major, options.minor, options.angle)
    if any(sizes) and not all((*sizes, *place)):
        raise UsageError("give --major, --minor and --angle together, with --ra, --dec and --flux")
    if options.ra and options.dec and options.flux:
        return ColumnMap(options.ra, options.dec, options.flux, None, None, False, False, *sizes)
    if any(place):
        raise UsageError("give all of --ra, --dec and --flux, or none")
    return None


def _as_stated(columns: ColumnMap, options: ImportOptions) -> ColumnMap:
    """The columns with what the user states in place of what is known of them."""
    from dataclasses import replace

    stated: dict[str, object] = {}
    if options.flux_unit is not None:
        stated["flux_to_jy"] = jansky_per(options.flux_unit)
        stated["flux_per_beam"] = "beam" in options.flux_unit.lower()
    if options.frequency is not None:
        stated["frequency_hz"] = options.frequency * 1e6
    if options.peak:
        stated["peak"] = True
    if options.position_unit is not None:
        stated["position_unit"] = options.position_unit
    if options.frame is not None:
        stated["frame"] = options.frame
    return replace(columns, **stated)  # type: ignore[arg-type]


def _columns_in(names: Collection[str], given: ColumnMap | None) -> ColumnMap | None:
    """The columns to read of a table with these; None if it lacks some."""
    if given is not None:
        return given if set(given.all) <= set(names) else None
    sizes = SHAPE_COLUMNS if set(SHAPE_COLUMNS) <= set(names) else (None, None, None)
    own = ColumnMap("ra_deg", "dec_deg", "flux_jy", None, None, False, False, *sizes)
    for columns in (*KNOWN_FORMATS.values(), own):
        if {columns.ra, columns.dec, columns.flux} <= set(names):
            return columns
    return None


def _no_columns(names: Sequence[str], given: ColumnMap | None) -> str:
    there = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
    if given is None:
        return (
            f"columns {there} are of no known catalogue; say which to use with --ra, --dec and "
            "--flux"
        )
    missing = [column for column in given.all if column not in names]
    return f"has no column {', '.join(missing)}; it has {there}"


def _numbers(path: Path, table: "Table", name: str) -> np.ndarray:
    try:
        return table_files.numbers(table[name])
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{path}: column {name} holds no numbers ({error})") from error


def _unit(path: Path, table: "Table", name: str) -> "units.UnitBase | None":
    try:
        return table_files.unit_of(table[name])
    except ValueError as error:
        raise BadInputError(
            f"{path}: column {name}: {error}; state it with an option of 'catalog import'"
        ) from error


def _positions(
    path: Path, file: TableFile, columns: ColumnMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ICRS positions, NaN where there is none, and position angles of the frame's north (deg)."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    ra_deg = _angle_deg(path, file, columns.ra, columns.position_unit, is_ra=True)
    dec_deg = _angle_deg(path, file, columns.dec, columns.position_unit, is_ra=False)
    ra = file.table[columns.ra]
    # Sexagesimal text is hours, and a column of this name is none.
    unstated = columns.position_unit is None and ra.unit is None and ra.dtype.kind not in "USO"
    if unstated and columns.ra != "ra_deg":
        _refuse_hours(path, columns.ra, ra_deg)
    with np.errstate(invalid="ignore"):
        # What stands for "none" in many files is no direction: -999, 9999.
        there = (np.abs(dec_deg) <= 90) & (ra_deg >= -360) & (ra_deg <= 360)
    ra_deg, dec_deg = np.where(there, ra_deg, np.nan), np.where(there, dec_deg, np.nan)
    frame = _frame(path, file, columns)
    north_deg = np.zeros(ra_deg.size)
    if frame is None or not there.any():
        return ra_deg, dec_deg, north_deg
    written = SkyCoord(ra_deg[there], dec_deg[there], unit="deg", frame=frame)
    icrs, above = written.icrs, written.directional_offset_by(0 * units.deg, 1 * units.arcsec).icrs
    ra_deg[there], dec_deg[there] = icrs.ra.deg, icrs.dec.deg
    north_deg[there] = icrs.position_angle(above).deg
    return ra_deg, dec_deg, north_deg


def _angle_deg(
    path: Path, file: TableFile, name: str, stated: str | None, *, is_ra: bool
) -> np.ndarray:
    from astropy import units

    column = file.table[name]
    if column.dtype.kind in "USO":
        cells = table_files.texts(column)
        try:
            values = np.array([float(cell) if cell else np.nan for cell in cells])
        except ValueError:
            return _sexagesimal_deg(path, name, cells, stated, is_ra=is_ra)
    else:
        values = _numbers(path, file.table, name)
    if stated == "hours":
        return values * 15 if is_ra else values
    unit = units.Unit(stated) if stated else _unit(path, file.table, name)
    if unit is None:
        return values
    if is_ra and unit.physical_type == "time":
        # Files write hours of right ascension as hours of time.
        unit = unit * units.hourangle / units.hour
    try:
        return np.asarray((values * unit).to_value(units.deg))
    except units.UnitConversionError as error:
        raise BadInputError(f"{path}: column {name} is in {unit}, which is no angle") from error


def _sexagesimal_deg(
    path: Path, name: str, cells: np.ndarray, stated: str | None, *, is_ra: bool
) -> np.ndarray:
    """Angles from text: sexagesimal, right ascensions in hours unless they say degrees."""
    from astropy import units
    from astropy.coordinates import Angle

    out = np.full(cells.size, np.nan)
    hours = is_ra and stated != "deg"
    for i, cell in enumerate(cells):
        if cell in ("", "--", "null"):
            continue
        # astropy's parser takes a hundred times as long, and tables have millions of rows.
        usual = _SEXAGESIMAL.match(cell)
        if usual is not None:
            size = float(usual[2]) + float(usual[3]) / 60 + float(usual[4]) / 3600
            out[i] = (-size if usual[1] == "-" else size) * (15 if hours else 1)
            continue
        in_degrees = re.search("[d\N{DEGREE SIGN}]", cell) is not None
        unit = units.hourangle if hours and not in_degrees else units.deg
        try:
            out[i] = Angle(str(cell), unit=unit).deg
        except (ValueError, TypeError) as error:
            raise BadInputError(
                f"{path}: row {i + 1} of column {name} is no angle: {str(cell)!r}"
            ) from error
    return out


def _refuse_hours(path: Path, name: str, ra_deg: np.ndarray) -> None:
    """Right ascensions without a unit that look like hours."""
    there = ra_deg[np.isfinite(ra_deg)]
    if (
        there.size >= _HOURS_ROWS
        and there.min() >= 0
        and there.max() < _HOURS_MAX
        and np.ptp(there) > _HOURS_SPAN
    ):
        raise UsageError(
            f"{path}: column {name} has no unit and looks like hours (0 to {there.max():.4g}); "
            "say which with --position-unit hours or --position-unit deg"
        )


def _frame(path: Path, file: TableFile, columns: ColumnMap) -> "BaseCoordinateFrame | None":
    """The astropy frame of the positions; None for ICRS."""
    from astropy.coordinates import FK4, FK5, Galactic

    written, equinox = (
        (columns.frame, None) if columns.frame is not None else file.frame_of(columns.ra)
    )
    if written is None:
        old = equinox is not None and float(equinox.lstrip("JB")) == 1950
        if old or "1950" in columns.ra:
            written = "fk4"
        else:
            # An equinox of 2000 alone is FK5 by the FITS standard; it is ICRS within 0.03 arcsec.
            return None
    kind = _FRAMES.get(written.lower())
    if kind is None:
        raise BadInputError(
            f"{path}: its frame {written} is none of ICRS, FK5, FK4 and galactic; state one with "
            "--frame"
        )
    if kind == "galactic":
        return Galactic()
    if kind == "fk4":
        return FK4(equinox=_epoch(equinox, "B1950"))
    return FK5(equinox=_epoch(equinox, "J2000")) if kind == "fk5" else None


def _epoch(written: str | None, default: str) -> str:
    if written is None:
        return default
    bare = written.strip()
    return bare if bare[:1] in "JB" else f"{default[0]}{float(bare):g}"


def _flux_unit(unit: "units.UnitBase") -> tuple[float, bool]:
    """Jansky in a unit, and whether it is a unit per beam.

    Raises
    ------
    ValueError
    """
    from astropy import units

    per_beam = unit * units.beam
    for bare, peak in ((unit, False), (per_beam, True)):
        try:
            return float(bare.to(units.Jy)), peak
        except units.UnitConversionError:
            continue
    raise ValueError(f"unit {unit} is none of flux density")


def _flux_jy(path: Path, file: TableFile, columns: ColumnMap) -> np.ndarray:
    values = _numbers(path, file.table, columns.flux)
    factor, peak = columns.flux_to_jy, columns.flux_per_beam
    if factor is None:
        unit = _unit(path, file.table, columns.flux)
        if unit is None and columns.flux == "flux_jy":
            return values
        if unit is None:
            raise UsageError(
                f"{path}: does not state the unit of {columns.flux}; state it with --flux-unit"
            )
        try:
            factor, peak = _flux_unit(unit)
        except ValueError as error:
            raise BadInputError(
                f"{path}: column {columns.flux}: {error}; give a column of integrated flux density"
            ) from error
    else:
        # The user states the scale; whether they are peaks the file may know.
        with contextlib.suppress(ValueError):
            unit = table_files.unit_of(file.table[columns.flux])
            peak = peak or (unit is not None and _flux_unit(unit)[1])
    if peak and not columns.peak:
        raise UsageError(
            f"{path}: {columns.flux} is per beam, a peak; give a column of integrated flux "
            "density, or --peak to take it for compact sources"
        )
    return values * factor


def _frequency_hz(path: Path, file: TableFile, columns: ColumnMap, notes: list[str]) -> float:
    if columns.frequency_hz is not None:
        return columns.frequency_hz
    for key in ("FREQ", "REF_FREQ", "RESTFRQ"):
        if key in file.table.meta:
            try:
                found = float(file.table.meta[key])
            except (TypeError, ValueError):
                found = 0.0
            if _LOWEST_HZ <= found <= _HIGHEST_HZ:
                return found
            raise BadInputError(
                f"{path}: its {key} is {file.table.meta[key]!r}, no frequency in Hz; state one "
                "with --frequency"
            )
    notes.append(f"taken to be at {_DEFAULT_HZ / 1e6:g} MHz; --frequency states another")
    return _DEFAULT_HZ


def _not_flagged(file: TableFile, notes: list[str]) -> np.ndarray:
    """Rows that VLASS' own flags recommend (Gordon et al. 2021, ApJS 255, 30)."""
    good = np.ones(len(file.table), bool)
    for name in file.table.colnames:
        limit = flag_limit(name)
        if limit is not None and file.table[name].dtype.kind in "iuf":
            flagged = table_files.numbers(file.table[name]) > limit
            _count(notes, good & flagged, f"are flagged by {name}")
            good &= ~flagged
    return good


def flag_limit(column: str) -> int | None:
    """Highest value of a flag column of a good row; None if the column is none of flags."""
    return {"duplicateflag": 1, "dupflag": 1, "qualityflag": 0, "qualflag": 0}.get(
        column.lower().replace("_", "")
    )


def _first_of_each(ra_deg: np.ndarray, dec_deg: np.ndarray, notes: list[str]) -> np.ndarray:
    kept = distinct(ra_deg, dec_deg)
    repeated = np.ones(ra_deg.size, bool)
    repeated[kept] = False
    _count(notes, repeated, f"repeat a source within {_TWICE_ARCSEC:g} arcsec")
    return kept


def _count(notes: list[str], rows: np.ndarray, what: str) -> None:
    count = int(np.count_nonzero(rows))
    if count == 1:
        what = (
            what.replace("have ", "has ", 1)
            .replace("are ", "is ", 1)
            .replace("repeat", "repeats", 1)
        )
    if count:
        notes.append(f"{count} row{'s' * (count > 1)} left out that {what}")


def _shapes(path: Path, file: TableFile, columns: ColumnMap, north_deg: np.ndarray) -> Shapes:
    """Read the columns of sizes, in arcsec where they have no unit, and of angles from a north."""
    from astropy import units

    if not columns.shape:
        return POINTS
    found = []
    for name, default in zip(columns.shape, (units.arcsec, units.arcsec, units.deg), strict=True):
        values = _numbers(path, file.table, name)
        unit = _unit(path, file.table, name)
        if unit is not None:
            try:
                values = np.asarray((values * unit).to_value(default))
            except units.UnitConversionError as error:
                raise BadInputError(
                    f"{path}: column {name} is in {unit}, which is no angle"
                ) from error
        found.append(values)
    major_arcsec, minor_arcsec, angle_deg = found
    return shapes_of(major_arcsec, minor_arcsec, angle_deg + north_deg)
