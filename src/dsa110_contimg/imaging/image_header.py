"""What the headers of other programs' images say: beam, frequency, unit of brightness, the rest."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.constants import HIGHEST_HZ, LOWEST_HZ
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sky.table_files import parse_unit

if TYPE_CHECKING:
    from astropy.io.fits import Header


_RAD = np.pi / 180
_BEAM_CARDS = (("BMAJ", "BMIN", "BPA"), ("CLEANBMJ", "CLEANBMN", "CLEANBPA"))
_AIPS_BEAM = re.compile(
    r"CLEAN\s+BMAJ=\s*(?P<major>[-+.\dED]+)\s+BMIN=\s*(?P<minor>[-+.\dED]+)\s+BPA=\s*(?P<angle>[-+.\dED]+)"
)
_FREQUENCY_CARDS = ("RESTFRQ", "RESTFREQ")
_COORDINATE_CARD = re.compile(
    r"^(NAXIS|CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME)\d+$|^(PC|CD|PV|PS)\d+_\d+$|^PC\d{6}$"
)
_STRUCTURAL = {
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "PCOUNT",
    "GCOUNT",
    "EXTEND",
    "EXTNAME",
    "BSCALE",
    "BZERO",
    "BLANK",
    "BUNIT",
    "BTYPE",
    "STOKES",
    "RESTFRQ",
    "RESTFREQ",
    "BMAJ",
    "BMIN",
    "BPA",
    "WCSAXES",
    "LONPOLE",
    "LATPOLE",
    "RADESYS",
    "EQUINOX",
    "SPECSYS",
    "MJDREF",
    "CHECKSUM",
    "DATASUM",
    "COMMENT",
    "HISTORY",
    "",
}


def readable(header: "Header") -> "Header":
    """A header without the cards that cannot be read or written again."""
    from astropy.io import fits

    good = []
    for card in header.cards:
        try:
            written = str(card)
        except (fits.VerifyError, ValueError):
            continue
        if written.isascii() and written.isprintable():
            good.append(card)
    return fits.Header(good)


def further_cards(header: "Header") -> dict[str, object]:
    """Cards that neither structure, coordinates, unit, beam nor frequency are made of."""
    return {
        key: header[key]
        for key in _cards(header, list(header))
        if key not in _STRUCTURAL and not _COORDINATE_CARD.match(key)
    }


def text_of(header: "Header", key: str) -> str:
    """Text of a card; empty if the header has it not."""
    return str(header[key]).strip() if _cards(header, [key]) else ""


def header_beam(path: Path, header: "Header", field_deg: float) -> RestoringBeam | None:
    """Beam of the cards, or of the history that AIPS writes; None if there is none.

    Parameters
    ----------
    path : Path
        Named in errors.
    header : astropy Header
    field_deg : float
        Width of the image, which no beam in degrees exceeds.

    Raises
    ------
    BadInputError
    """
    found = _beam_cards(path, header)
    if found is None and "HISTORY" in header:
        matches = [m for line in header["HISTORY"] if (m := _AIPS_BEAM.search(str(line)))]
        if matches:
            last = matches[-1]
            found = tuple(float(last[k].replace("D", "E")) for k in ("major", "minor", "angle"))
    if found is None:
        return None
    major_deg, minor_deg, angle_deg = found
    if major_deg <= 0 or minor_deg <= 0:
        raise BadInputError(
            f"{path}: its beam is {major_deg:g} x {minor_deg:g} degrees, which is none: correct "
            "BMAJ and BMIN"
        )
    if 1 < major_deg > field_deg > 0:
        raise BadInputError(
            f"{path}: its BMAJ is {major_deg:g} degrees, more than the image; is it in arcsec?"
        )
    major_deg, minor_deg = max(major_deg, minor_deg), min(major_deg, minor_deg)
    return RestoringBeam(major_deg * _RAD, minor_deg * _RAD, angle_deg * _RAD)


def factor_to_jansky_per_beam(
    path: Path, unit: str, beam: RestoringBeam | None, *, strict: bool
) -> tuple[float, str]:
    """Factor to Jy per beam, and the unit then; pixels without a unit stay as they are.

    Raises
    ------
    BadInputError
        If it is a unit of something else, and strict.
    """
    from astropy import units

    if not unit:
        return 1.0, unit
    try:
        parsed = parse_unit(unit)
    except ValueError as error:
        if not strict:
            return 1.0, unit
        raise BadInputError(f"{path}: its BUNIT: {error}; write Jy/beam or the like") from error
    if parsed.is_equivalent(units.dimensionless_unscaled):
        return 1.0, unit
    if parsed.is_equivalent(units.Jy / units.beam):
        return float(parsed.to(units.Jy / units.beam)), "Jy/beam"
    if parsed.is_equivalent(units.Jy / units.sr):
        if beam is None:
            raise BadInputError(f"{path}: is in {unit} and has no beam to turn that to Jy/beam")
        return float(parsed.to(units.Jy / units.sr)) * beam.solid_angle_sr, "Jy/beam"
    if not strict:
        return 1.0, unit
    raise BadInputError(
        f"{path}: its BUNIT is {unit}; images in Jy per beam or per solid angle are understood"
    )


def header_frequency_hz(path: Path, header: "Header") -> float | None:
    """Frequency of the cards; None if there is none.

    Raises
    ------
    BadInputError
    """
    for key in _FREQUENCY_CARDS:
        value = _number(path, header, key)
        if value is None or value <= 0:
            continue
        if not LOWEST_HZ <= value <= HIGHEST_HZ:
            raise BadInputError(f"{path}: its {key} is {value:g} Hz: correct the card")
        return value
    return None


def _cards(header: "Header", keys: Sequence[str]) -> list[str]:
    """Those of some keys that have a value, and one that may be written again."""
    from astropy.io import fits

    good = []
    for key in keys:
        if key not in header:
            continue
        try:
            value = header[key]
        except (fits.VerifyError, ValueError):
            continue
        if isinstance(value, fits.card.Undefined):
            continue
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            continue
        good.append(key)
    return good


def _number(path: Path, header: "Header", key: str) -> float | None:
    """Value of a card; None if the header has it not.

    Raises
    ------
    BadInputError
        If it is no number.
    """
    from astropy.io import fits

    if key not in header:
        return None
    try:
        value = float(header[key])
    except (fits.VerifyError, TypeError, ValueError) as error:
        raise BadInputError(f"{path}: its {key} is no number: correct the card") from error
    if not np.isfinite(value):
        raise BadInputError(f"{path}: its {key} is {value}: correct the card")
    return value


def _beam_cards(path: Path, header: "Header") -> tuple[float, ...] | None:
    for names in _BEAM_CARDS:
        major, minor, angle = (_number(path, header, name) for name in names)
        if major is None:
            continue
        if minor is None:
            raise BadInputError(f"{path}: has {names[0]} without {names[1]}: write both")
        return major, minor, 0.0 if angle is None else angle
    return None
