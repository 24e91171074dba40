"""Read images of the sky that this or another program wrote: FITS files and CASA images."""

import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np

from dsa110_contimg.errors import BadInputError, unreadable
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.image_header import (
    factor_to_jansky_per_beam,
    further_cards,
    header_beam,
    header_frequency_hz,
    text_of,
)
from dsa110_contimg.imaging.image_plane import (
    ImagePlane,
    celestial_plane,
    frame_of,
    turned_beam,
    upright_image,
)
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.sky_image import ForeignImage, SkyImage
from dsa110_contimg.sky.projections import PROJECTIONS


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


def read_map(path: Path) -> Image | ForeignImage:
    """Read an image whose pixels may be anything: those without a unit of brightness stay.

    Raises
    ------
    BadInputError
    """
    return _read(path, brightness=False)


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


def _read(
    path: Path, *, brightness: bool, beam: RestoringBeam | None = None
) -> Image | ForeignImage:
    """Read an image; refuse units that are none of brightness, or leave them as they are.

    A map that states no beam has the one that is given.
    """
    if path.is_dir():
        return _read_casa(path, brightness=brightness, beam=beam)
    plane = _plane(path)
    beam = header_beam(path, plane.header, plane.field_deg) or beam
    unit = text_of(plane.header, "BUNIT")
    pixels = np.ascontiguousarray(plane.pixels, dtype=np.float32)
    factor, unit = factor_to_jansky_per_beam(path, unit, beam, strict=brightness)
    if factor != 1.0:
        pixels = (pixels * np.float32(factor)).astype(np.float32)
    # The axis first: RESTFRQ is that of a line where an image was made at another frequency.
    of_axis = plane.frequency_hz is not None and plane.frequency_hz > 0
    frequency_hz = plane.frequency_hz if of_axis else header_frequency_hz(path, plane.header)
    upright = upright_image(plane, pixels, beam, unit, frequency_hz)
    if upright is not None:
        return upright
    frame = frame_of(path, plane.wcs)
    return ForeignImage(
        pixels,
        plane.wcs,
        frame,
        beam if beam is None else turned_beam(beam, plane, frame),
        unit,
        frequency_hz,
        further_cards(plane.header),
    )


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


def _plane(path: Path) -> ImagePlane:
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
                return celestial_plane(path, hdu.header, hdu.shape, lambda: np.asarray(hdu.data))
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
