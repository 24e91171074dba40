"""Read images of the sky that this or another program wrote: FITS files and CASA images."""

import re
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.errors import BadInputError, unreadable
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.sky_image import ForeignImage, SkyImage
from dsa110_contimg.sky.projections import PROJECTIONS
from dsa110_contimg.sky.table_files import parse_unit

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame
    from astropy.io.fits import Header
    from astropy.wcs import WCS


_RAD = np.pi / 180
_BEAM_CARDS = (("BMAJ", "BMIN", "BPA"), ("CLEANBMJ", "CLEANBMN", "CLEANBPA"))
_AIPS_BEAM = re.compile(
    r"CLEAN\s+BMAJ=\s*(?P<major>[-+.\dED]+)\s+BMIN=\s*(?P<minor>[-+.\dED]+)\s+BPA=\s*(?P<angle>[-+.\dED]+)"
)
_FREQUENCY_CARDS = ("RESTFRQ", "RESTFREQ")
_LOWEST_HZ, _HIGHEST_HZ = 1e6, 1e12
"""What lies beyond is in another unit."""
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
_SQUARE = 1e-9


@dataclass(frozen=True, eq=False)
class _Plane:
    """The plane of a file that is the image.

    Attributes
    ----------
    header : astropy Header
    pixels : ndarray, shape (ny, nx)
        Latitude along the rows.
    wcs : astropy.wcs.WCS
        Longitude and latitude.
    frequency_hz : float or None
        Of a spectral axis.
    """

    header: "Header"
    pixels: np.ndarray
    wcs: "WCS"
    frequency_hz: float | None


def read_fits(path: Path) -> Image:
    """Read an image that `write_fits` wrote.

    Raises
    ------
    BadInputError
        If it cannot be read, or is no image on a plane of `sky.projections`.
    """
    image = read_map(path)
    if not isinstance(image, Image):
        raise BadInputError(
            f"{path}: is not an upright ICRS image with square pixels on a plane of "
            f"{', '.join(PROJECTIONS)}; others can be validated, cross-matched and compared only"
        )
    return image


def read_image(path: Path) -> Image | ForeignImage:
    """Read an image of any program.

    FITS files may have an image of two to four axes in any extension, compressed or not, with any
    celestial coordinates and any unit of brightness per beam or solid angle. The total intensity
    is taken of several Stokes parameters.

    Parameters
    ----------
    path : Path
        A FITS file or the directory of a CASA image.

    Raises
    ------
    BadInputError
        Naming what it does not hold.
    """
    return _read(path, brightness=True)


def _read(
    path: Path, *, brightness: bool, beam: RestoringBeam | None = None
) -> Image | ForeignImage:
    """Read an image; refuse units that are none of brightness, or leave them as they are.

    A map that states no beam has the one that is given.
    """
    if path.is_dir():
        return _read_casa(path, brightness=brightness, beam=beam)
    plane = _plane(path)
    beam = _beam(path, plane) or beam
    unit = _text(plane.header, "BUNIT")
    pixels = np.ascontiguousarray(plane.pixels, dtype=np.float32)
    factor, unit = _brightness(path, unit, beam, strict=brightness)
    if factor != 1.0:
        pixels = (pixels * np.float32(factor)).astype(np.float32)
    frequency_hz = _frequency_hz(path, plane)
    upright = _upright(plane, pixels, beam, unit, frequency_hz)
    if upright is not None:
        return upright
    frame = _frame(path, plane.wcs)
    return ForeignImage(
        pixels,
        plane.wcs,
        frame,
        beam if beam is None else _turned(beam, plane, frame),
        unit,
        frequency_hz,
        _further_cards(plane.header),
    )


def read_map(path: Path) -> Image | ForeignImage:
    """Read an image whose pixels may be anything: those without a unit of brightness stay.

    Raises
    ------
    BadInputError
    """
    return _read(path, brightness=False)


def beam_of(path: Path, image: SkyImage) -> RestoringBeam:
    """The beam of an image that needs one.

    Raises
    ------
    BadInputError
    """
    if image.beam is None:
        raise BadInputError(
            f"{path}: has no beam: write BMAJ, BMIN and BPA (degrees) to its header"
        )
    return image.beam


def frequency_of(path: Path, image: SkyImage) -> float:
    """The frequency (Hz) of an image that needs one.

    Raises
    ------
    BadInputError
    """
    if image.frequency_hz is None:
        raise BadInputError(
            f"{path}: states no frequency, which a catalogue's flux densities must be scaled to: "
            "write RESTFRQ (Hz) to its header"
        )
    return image.frequency_hz


def read_companion(path: Path, image: SkyImage) -> np.ndarray:
    """Pixels of a map on the grid of an image.

    Raises
    ------
    BadInputError
        If its shape is another.
    """
    pixels = _read(path, brightness=False, beam=image.beam).pixels
    if pixels.shape != image.pixels.shape:
        raise BadInputError(
            f"{path}: has {pixels.shape[1]} x {pixels.shape[0]} pixels, its image "
            f"{image.pixels.shape[1]} x {image.pixels.shape[0]}"
        )
    return pixels


def _read_casa(path: Path, *, brightness: bool, beam: RestoringBeam | None) -> Image | ForeignImage:
    from casacore import images

    if not (path / "table.dat").exists():
        raise BadInputError(f"{path}: is a directory, and no CASA image")
    with tempfile.TemporaryDirectory() as scratch:
        as_fits = Path(scratch) / f"{path.stem}.fits"
        try:
            images.image(str(path)).tofits(str(as_fits))
            return _read(as_fits, brightness=brightness, beam=beam)
        except RuntimeError as error:
            raise BadInputError(f"{path}: cannot be read as a CASA image ({error})") from error
        except BadInputError as error:
            said = str(error).removeprefix(f"{as_fits}: ")
            raise BadInputError(f"{path}: {said}") from error


def _plane(path: Path) -> _Plane:
    """Open a file and take its image."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            # Dates and odd cards of other programs warn; what is used of them is judged here.
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(path, memmap=False) as hdus:
                hdu = next((hdu for hdu in hdus if _is_image(hdu)), None)
                if hdu is None:
                    raise BadInputError(f"{path}: holds no image of two axes")
                return _celestial_plane(path, hdu.header, hdu.shape, lambda: np.asarray(hdu.data))
    except FileNotFoundError as error:
        raise unreadable(path, "there is no such file", error) from error
    except OSError as error:
        raise unreadable(path, f"cannot be read as FITS ({error})", error) from error
    except fits.VerifyError as error:
        raise BadInputError(f"{path}: a card of its header cannot be read ({error})") from error
    except (ValueError, TypeError, EOFError, zlib.error) as error:
        raise BadInputError(f"{path}: is cut off or damaged ({error})") from error


def _is_image(hdu: object) -> bool:
    from astropy.io import fits

    if not isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU):
        return False
    shape = hdu.shape
    return sum(length > 1 for length in shape) >= 2


def _celestial_plane(
    path: Path, header: "Header", shape: tuple[int, ...], read: Callable[[], np.ndarray]
) -> _Plane:
    """One plane of a cube with axes of length one, and its coordinates.

    The pixels are read when it is known which they are.
    """
    from astropy.wcs import WCS, WCSSUB_LATITUDE, WCSSUB_LONGITUDE

    try:
        wcs = WCS(_readable(header))
        wcs.wcs.set()
    except (ValueError, KeyError, MemoryError, AssertionError) as error:
        said = " ".join(str(error).split())
        raise BadInputError(f"{path}: its coordinates cannot be understood ({said})") from error
    if not wcs.has_celestial:
        types = ", ".join(str(kind) or "nothing" for kind in wcs.wcs.ctype)
        raise BadInputError(f"{path}: has no celestial coordinates (its axes are {types})")
    longitude, latitude = wcs.wcs.lng, wcs.wcs.lat
    frequency_hz = None
    index: list[int | slice] = [0] * len(shape)
    # Coordinates may have more axes than the array, and the other way round.
    for axis in range(max(len(shape), wcs.naxis)):
        # The axes of an array are those of the header from the last to the first.
        place = len(shape) - 1 - axis
        if axis in (longitude, latitude):
            if place < 0:
                raise BadInputError(f"{path}: its array lacks an axis of its coordinates")
            index[place] = slice(None)
            continue
        length = shape[place] if place >= 0 else 1
        kind = str(wcs.wcs.ctype[axis]) if axis < wcs.naxis else ""
        if length > 1 and not kind.startswith("STOKES"):
            raise BadInputError(
                f"{path}: holds {length} planes along {kind or f'axis {axis + 1}'}; extract one"
            )
        values = (
            wcs.wcs.crval[axis]
            + (np.arange(1, length + 1) - wcs.wcs.crpix[axis]) * _step(wcs, axis)
            if axis < wcs.naxis
            else np.zeros(length)
        )
        if kind.startswith("STOKES") and length > 1:
            total = np.flatnonzero(np.rint(values) == 1)
            if total.size == 0:
                raise BadInputError(f"{path}: holds {length} Stokes parameters, none of them I")
            index[place] = int(total[0])
        elif kind.startswith("FREQ"):
            frequency_hz = float(values[0])
    pixels = read()[tuple(index)]
    celestial = wcs.sub([WCSSUB_LONGITUDE, WCSSUB_LATITUDE])
    return _Plane(header, pixels if latitude > longitude else pixels.T, celestial, frequency_hz)


def _step(wcs: "WCS", axis: int) -> float:
    return float(wcs.wcs.get_cdelt()[axis] * wcs.wcs.get_pc()[axis, axis])


def _upright(
    plane: _Plane,
    pixels: np.ndarray,
    beam: RestoringBeam | None,
    unit: str,
    frequency_hz: float | None,
) -> Image | None:
    """The image on a plane of this project; None if its coordinates are others."""
    wcs = plane.wcs.wcs
    kinds = [str(kind) for kind in wcs.ctype]
    projection = kinds[0][-3:]
    (east, x_of_y), (y_of_x, north) = wcs.get_pc() * wcs.get_cdelt()[:, None]
    parameters = {(axis, number): value for axis, number, value in wcs.get_pv()}
    if projection == "CEA":
        parallel = parameters.pop((2, 1), 1.0)
    plain = (
        kinds == [f"RA---{projection}", f"DEC--{projection}"]
        and projection in PROJECTIONS
        and wcs.radesys == "ICRS"
        and plane.wcs.sip is None
        and north > 0
        and abs(east + north) <= _SQUARE * north
        and max(abs(x_of_y), abs(y_of_x)) <= _SQUARE * north
        and not any(value for value in parameters.values())
        and wcs.lonpole == (0.0 if projection == "CEA" else 180.0)
        and (projection != "CEA" or wcs.crval[1] == 0)
    )
    if not plain or frequency_hz is None:
        return None
    ra, dec, cell = wcs.crval[0] * _RAD, wcs.crval[1] * _RAD, float(north) * _RAD
    column, row = wcs.crpix[0] - 1, wcs.crpix[1] - 1
    if projection == "CEA":
        side = -1.0 if row > pixels.shape[0] / 2 else 1.0
        dec = side * float(np.arccos(np.sqrt(parallel)))
        cell *= np.cos(dec)
        row += np.tan(dec) / cell
    header = _further_cards(plane.header)
    return Image(
        pixels, (ra, dec), (column, row), cell, projection, beam, unit, frequency_hz, header
    )


def _frame(path: Path, wcs: "WCS") -> "BaseCoordinateFrame":
    from astropy.wcs.utils import wcs_to_celestial_frame

    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise BadInputError(
            f"{path}: its frame ({', '.join(wcs.wcs.ctype)}, {wcs.wcs.radesys or 'no RADESYS'}) is "
            "none of the sky's"
        ) from error


def _turned(beam: RestoringBeam, plane: _Plane, frame: "BaseCoordinateFrame") -> RestoringBeam:
    """A beam whose angle is from the north of the image's frame, from that of ICRS."""
    from dataclasses import replace

    from astropy import units
    from astropy.coordinates import SkyCoord

    ny, nx = plane.pixels.shape
    longitude, latitude = plane.wcs.all_pix2world([[0.5 * (nx - 1), 0.5 * (ny - 1)]], 0)[0]
    if not np.isfinite([longitude, latitude]).all():
        return beam
    middle = SkyCoord(longitude, latitude, unit="deg", frame=frame)
    above = middle.directional_offset_by(0 * units.deg, 1 * units.arcsec)
    north_rad = float(middle.icrs.position_angle(above.icrs).rad)
    return replace(beam, position_angle_rad=(beam.position_angle_rad + north_rad) % np.pi)


def _readable(header: "Header") -> "Header":
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


def _further_cards(header: "Header") -> dict[str, object]:
    """Cards that neither structure, coordinates, unit, beam nor frequency are made of."""
    return {
        key: header[key]
        for key in _cards(header, list(header))
        if key not in _STRUCTURAL and not _COORDINATE_CARD.match(key)
    }


def _text(header: "Header", key: str) -> str:
    return str(header[key]).strip() if _cards(header, [key]) else ""


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


def _beam(path: Path, plane: _Plane) -> RestoringBeam | None:
    """Beam of the cards, or of the history that AIPS writes."""
    header = plane.header
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
    cells_deg = np.linalg.norm(plane.wcs.pixel_scale_matrix, axis=0)
    field_deg = max(plane.pixels.shape) * float(cells_deg.max())
    if 1 < major_deg > field_deg > 0:
        raise BadInputError(
            f"{path}: its BMAJ is {major_deg:g} degrees, more than the image; is it in arcsec?"
        )
    major_deg, minor_deg = max(major_deg, minor_deg), min(major_deg, minor_deg)
    return RestoringBeam(major_deg * _RAD, minor_deg * _RAD, angle_deg * _RAD)


def _beam_cards(path: Path, header: "Header") -> tuple[float, ...] | None:
    for names in _BEAM_CARDS:
        major, minor, angle = (_number(path, header, name) for name in names)
        if major is None:
            continue
        if minor is None:
            raise BadInputError(f"{path}: has {names[0]} without {names[1]}: write both")
        return major, minor, 0.0 if angle is None else angle
    return None


def _brightness(
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


def _frequency_hz(path: Path, plane: _Plane) -> float | None:
    """Frequency of a spectral axis, or of the cards; None if there is none.

    The axis first: RESTFRQ is that of a line where an image was made at another frequency.
    """
    if plane.frequency_hz is not None and plane.frequency_hz > 0:
        return plane.frequency_hz
    for key in _FREQUENCY_CARDS:
        value = _number(path, plane.header, key)
        if value is None or value <= 0:
            continue
        if not _LOWEST_HZ <= value <= _HIGHEST_HZ:
            raise BadInputError(f"{path}: its {key} is {value:g} Hz: correct the card")
        return value
    return None
