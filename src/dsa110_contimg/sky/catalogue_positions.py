"""Positions of a table in any unit, notation and frame, as ICRS degrees."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import astrometry, table_files
from dsa110_contimg.sky.catalogue_columns import ColumnMap, numbers, unit_of
from dsa110_contimg.sky.frames import icrs_and_north
from dsa110_contimg.sky.table_files import TableFile

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame


_SEXAGESIMAL = re.compile(r"^([+-]?) *(\d{1,3})[ :] *([0-5]?\d)[ :] *([0-5]?\d(?:\.\d*)?)$")
TWICE_ARCSEC = 1.0
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


def positions(
    path: Path, file: TableFile, columns: ColumnMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ICRS positions, NaN where there is none, and position angles of the frame's north (deg)."""
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
    icrs, north_rad = icrs_and_north(written)
    ra_deg[there], dec_deg[there] = icrs.ra.deg, icrs.dec.deg
    north_deg[there] = np.rad2deg(north_rad)
    return ra_deg, dec_deg, north_deg


def distinct(
    ra_deg: np.ndarray, dec_deg: np.ndarray, radius_arcsec: float = TWICE_ARCSEC
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
        values = numbers(path, file.table, name)
    if stated == "hours":
        return values * 15 if is_ra else values
    unit = units.Unit(stated) if stated else unit_of(path, file.table, name)
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
