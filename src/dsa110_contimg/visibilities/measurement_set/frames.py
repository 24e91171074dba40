"""Frames of the directions in a Measurement Set (MEASINFO keywords, casacore note 260)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.errors import BadInputError

if TYPE_CHECKING:
    from casacore.tables import table

_ICRS = ("ICRS", "J2000")
"""Frames taken for ICRS; that of J2000 differs from it by 0.03 arcsec."""


@dataclass(frozen=True)
class PhaseCentre:
    """Where a field's phases are zero.

    Attributes
    ----------
    icrs_rad : tuple of float
    north_rad : float
        Position angle of the frame's north, ICRS, north through east.
    """

    icrs_rad: tuple[float, float]
    north_rad: float = 0.0

    def turned(self, uvw_m: np.ndarray) -> np.ndarray:
        """Baselines with u to the east and v to the north of ICRS, of those in the frame."""
        if self.north_rad == 0.0:
            return uvw_m
        cos, sin = np.cos(self.north_rad), np.sin(self.north_rad)
        u, v, w = uvw_m.T
        return np.stack([u * cos + v * sin, v * cos - u * sin, w], axis=1)


def phase_centre(path: Path, ms: "table", field: int) -> PhaseCentre:
    """Phase centre of a field.

    Raises
    ------
    BadInputError
        If its frame is not one of the fixed sky.
    """
    from astropy import units
    from astropy.coordinates import FK4, Galactic, SkyCoord
    from casacore import tables

    with tables.table(ms.getkeyword("FIELD"), ack=False) as rows:
        longitude, latitude = np.asarray(rows.getcell("PHASE_DIR", field)).reshape(-1)[:2]
        name = _frame(rows, "PHASE_DIR", field)
    if name in _ICRS:
        return PhaseCentre((float(longitude), float(latitude)))
    frame = {
        "B1950": FK4(equinox="B1950"),
        # Of the VLA's old calibrator lists: the mean epoch of their observation is 1979.9.
        "B1950_VLA": FK4(equinox="B1950", obstime="B1979.9"),
        "GALACTIC": Galactic(),
    }.get(name)
    if frame is None:
        raise BadInputError(
            f"{path}: the phase centre of its field {field} is in the frame {name}; ICRS, J2000, "
            "B1950, B1950_VLA and GALACTIC are understood; move it with CASA's phaseshift"
        )
    written = SkyCoord(longitude, latitude, unit="rad", frame=frame)
    centre = written.icrs
    above = written.directional_offset_by(0 * units.deg, 1 * units.arcmin).icrs
    return PhaseCentre(
        (float(centre.ra.rad), float(centre.dec.rad)), float(centre.position_angle(above).rad)
    )


def is_equatorial(ms: "table", subtable: str, column: str) -> bool:
    """True if all directions of a column are ICRS, or J2000."""
    from casacore import tables

    with tables.table(ms.getkeyword(subtable), ack=False) as rows:
        varies = "VarRefCol" in rows.getcolkeywords(column).get("MEASINFO", {})
        some = range(rows.nrows() if varies else min(rows.nrows(), 1))
        return all(_frame(rows, column, row) in _ICRS for row in some)


def _frame(rows: "table", column: str, row: int) -> str:
    """Frame of a direction: of its column, or of each row by a column of names or codes."""
    keywords = rows.getcolkeywords(column)
    info = keywords.get("MEASINFO", {})
    if "VarRefCol" not in info:
        return str(info.get("Ref", "J2000")).upper()
    value = rows.getcell(info["VarRefCol"], row)
    if isinstance(value, str):
        return value.upper()
    codes = [int(code) for code in info.get("TabRefCodes", ())]
    names = [str(name) for name in info.get("TabRefTypes", ())]
    return names[codes.index(int(value))].upper() if int(value) in codes else f"number {value}"
