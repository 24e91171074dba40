"""Round parts of the sky, and positions as people write them."""

import re
from dataclasses import dataclass

import erfa
import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import UsageError

_TWO_NUMBERS = re.compile(r"^\s*([+-]?\d+(?:\.\d*)?)[\s,]+([+-]?\d+(?:\.\d*)?)\s*$")
_SEXAGESIMAL = re.compile(r"^\s*(\d[^+-]*[:h ]\s*\d[^+-]*?)[\s,]*([+-].*\d.*)$")
_MAX_RADIUS_DEG = 180.0


@dataclass(frozen=True)
class Cone:
    """All of the sky within an angle of a position.

    Attributes
    ----------
    ra_deg, dec_deg : float
    radius_deg : float

    Raises
    ------
    UsageError
        If there is no such position, or the radius is not positive.
    """

    ra_deg: float
    dec_deg: float
    radius_deg: float

    def __post_init__(self) -> None:
        check_right_ascension(self.ra_deg)
        check_declination(self.dec_deg)
        if not 0 < self.radius_deg <= _MAX_RADIUS_DEG:
            raise UsageError(
                f"radius {self.radius_deg:g}: give an angle above 0 and at most "
                f"{_MAX_RADIUS_DEG:g} degrees"
            )

    def distance_arcsec(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
        """Angles between the centre and positions (degrees)."""
        centre = np.deg2rad((self.ra_deg, self.dec_deg))
        away_rad: np.ndarray = erfa.seps(np.deg2rad(ra_deg), np.deg2rad(dec_deg), *centre)
        return away_rad / ARCSEC_RAD

    @classmethod
    def parse(cls, ra: str, dec: str, radius: str) -> "Cone":
        """Read a cone from text: degrees, or a position in hours and degrees."""
        radius_deg = _number(radius)
        if radius_deg is None:
            raise UsageError(f"radius {radius!r}: give degrees, such as 0.5")
        return cls(parse_right_ascension(ra), parse_declination(dec), radius_deg)


def check_right_ascension(ra_deg: float) -> float:
    """Return a right ascension (degrees); raise `UsageError` if it is none."""
    if not 0 <= ra_deg <= 360:
        raise UsageError(f"right ascension {ra_deg:g}: give 0 to 360 degrees")
    return ra_deg


def check_declination(dec_deg: float) -> float:
    """Return a declination (degrees); raise `UsageError` if it is none."""
    if not -90 <= dec_deg <= 90:
        raise UsageError(f"declination {dec_deg:g}: give -90 to 90 degrees")
    return dec_deg


def parse_right_ascension(text: str) -> float:
    """Read a right ascension, degrees, from degrees or from hours, minutes and seconds."""
    return check_right_ascension(_angle_deg(text, "hourangle", "right ascension", "13:31:08.3"))


def parse_declination(text: str) -> float:
    """Read a declination, degrees, from degrees or from degrees, minutes and seconds."""
    return check_declination(_angle_deg(text, "deg", "declination", "+30:30:33"))


def parse_position(text: str) -> tuple[float, float] | None:
    """Read right ascension and declination from text.

    Parameters
    ----------
    text : str
        Two numbers in degrees, or hours and degrees with minutes and seconds.

    Returns
    -------
    tuple of float or None
        Degrees; None if the text does not look like a position.

    Raises
    ------
    UsageError
        If it looks like a position and is none.
    """
    found = _TWO_NUMBERS.match(text) or _SEXAGESIMAL.match(text)
    if not found:
        return None
    return parse_right_ascension(found[1]), parse_declination(found[2])


def _angle_deg(text: str, unit: str, what: str, example: str) -> float:
    number = _number(text)
    if number is not None:
        return number
    from astropy.coordinates import Angle

    try:
        return float(Angle(text.strip(), unit=unit).deg)
    except ValueError as error:
        raise UsageError(f"{what} {text!r}: give degrees, or a form such as {example}") from error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
