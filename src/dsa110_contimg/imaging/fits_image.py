"""Write images as FITS files and CASA images, with beam, unit, frequency and dates.

The array has the two axes of a continuum image; frequency and Stokes parameter are axes of the
coordinates alone.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.durable import whole
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.header_cards import BANDWIDTH_CARD
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.sky_image import SkyImage

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS


_RAD = np.pi / 180
_FITS_BLOCK = 2880
_STOKES = {"I": 1.0, "Q": 2.0, "U": 3.0, "V": 4.0}


@dataclass(frozen=True, eq=False)
class Image:
    """A celestial image.

    Attributes
    ----------
    pixels : ndarray of float32, shape (ny, nx)
        FITS order: rows north, columns towards decreasing right ascension.
    centre_rad : tuple of float
        ICRS position of the reference pixel.
    reference_pixel : tuple of float
        Zero-based (column, row) of that position.
    cell_rad : float
    projection : str
        SIN, TAN or CEA; see `sky.projections`.
    beam : RestoringBeam or None
    unit : str
    frequency_hz : float
    header : mapping
        Further cards: keyword to value or (value, comment).
    """

    pixels: np.ndarray
    centre_rad: tuple[float, float]
    reference_pixel: tuple[float, float]
    cell_rad: float
    projection: str
    beam: RestoringBeam | None
    unit: str
    frequency_hz: float
    header: Mapping[str, object] = field(default_factory=dict)

    @property
    def wcs(self) -> "WCS":
        """The astropy WCS."""
        from astropy.wcs import WCS

        ra, dec = self.centre_rad
        column, row, cell = *self.reference_pixel, self.cell_rad
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = [f"RA---{self.projection}", f"DEC--{self.projection}"]
        if self.projection == "CEA":
            # The FITS reference pixel of a cylinder lies on the equator.
            wcs.wcs.set_pv([(2, 1, np.cos(dec) ** 2)])
            row, cell, dec = row - np.tan(dec) / cell, cell / np.cos(dec), 0.0
        wcs.wcs.crval = [np.rad2deg(ra) % 360, np.rad2deg(dec)]
        wcs.wcs.crpix = [column + 1, row + 1]
        wcs.wcs.cdelt = [-np.rad2deg(cell), np.rad2deg(cell)]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        if self.projection != "CEA":
            # The standard's default is another at the pole.
            wcs.wcs.lonpole = 180.0
        return wcs

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SkyImage.sky`."""
        ra_deg, dec_deg = self.wcs.all_pix2world(x, y, 0)
        return ra_deg, dec_deg

    def pixel(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SkyImage.pixel`."""
        if np.size(ra_deg) == 0:
            return np.zeros(0), np.zeros(0)
        x, y = self.wcs.all_world2pix(ra_deg, dec_deg, 0)
        return x, y


def write_fits(path: Path, image: SkyImage) -> None:
    """Write a FITS file; the name appears only when it is complete.

    Raises
    ------
    UsageError
        If the file exists.
    """
    with create_fits(path, image) as pixels:
        pixels[:] = image.pixels


@contextlib.contextmanager
def create_fits(path: Path, image: SkyImage) -> Iterator[np.ndarray]:
    """Write a FITS file piece by piece, in bounded memory.

    Parameters
    ----------
    path : Path
        The name appears when the block ends well.
    image : SkyImage
        Everything but the values of its pixels.

    Yields
    ------
    ndarray of float32, shape of the image
        The file's pixels, zero at first.

    Raises
    ------
    UsageError
        If the file exists.
    """
    from astropy.io import fits

    if path.exists():
        raise UsageError(f"{path}: exists already; choose another name or allow overwriting")
    # A header of an array that takes no memory.
    header = fits.PrimaryHDU(
        np.broadcast_to(np.float32(0), image.pixels.shape), _header(image)
    ).header
    path.parent.mkdir(parents=True, exist_ok=True)
    cards = header.tostring().encode("ascii")
    shape = image.pixels.shape
    size = len(cards) + 4 * shape[0] * shape[1]
    with whole(path) as part:
        # Readable too: the C library reads where the file system cannot allocate (FUSE).
        with part.open("w+b") as file:
            file.write(cards)
            # What the disk does not hold must fail here, not in the map's memory.
            os.posix_fallocate(file.fileno(), 0, -(-size // _FITS_BLOCK) * _FITS_BLOCK)
        try:
            pixels = np.memmap(part, ">f4", "r+", len(cards), shape)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            # A file system that cannot map files, as some of FUSE.
            held = np.zeros(shape, ">f4")
            yield held
            with part.open("r+b") as file:
                file.seek(len(cards))
                file.write(held.data)
            return
        yield pixels
        pixels.flush()


def _header(image: SkyImage) -> "Header":
    header = image.wcs.to_header()
    header["BUNIT"] = image.unit
    header["BTYPE"] = "Intensity"
    header["STOKES"] = "I"
    if image.frequency_hz is not None:
        _add_degenerate_axes(header, image)
    if image.beam is not None:
        header["BMAJ"] = (image.beam.major_rad / _RAD, "[deg]")
        header["BMIN"] = (image.beam.minor_rad / _RAD, "[deg]")
        header["BPA"] = (image.beam.position_angle_rad / _RAD, "[deg] north through east")
    for key, value in image.header.items():
        header[key] = value
    return header


def _add_degenerate_axes(header: "Header", image: SkyImage) -> None:
    """Frequency and Stokes parameter: axes of the coordinates that the array does not have.

    The FITS standard allows more axes of coordinates than of data (section 8.2, WCSAXES); casacore
    makes axes of length one of them.
    """
    given = {key: _value(value) for key, value in image.header.items()}
    header["WCSAXES"] = 4
    header["CTYPE3"], header["CRVAL3"], header["CRPIX3"] = "FREQ", image.frequency_hz, 1.0
    header["CDELT3"] = (given.get(BANDWIDTH_CARD, 1.0), "width of the band")
    header["CUNIT3"] = "Hz"
    header["CTYPE4"], header["CRPIX4"], header["CDELT4"] = "STOKES", 1.0, 1.0
    header["CRVAL4"] = _STOKES[str(given.get("STOKES", "I"))]
    header["SPECSYS"] = "TOPOCENT"
    header["RESTFRQ"] = (image.frequency_hz, "[Hz] effective frequency")
    header["RESTFREQ"] = image.frequency_hz


def _value(given: object) -> object:
    """Value of a card that may have a comment."""
    return given[0] if isinstance(given, tuple) else given


def write_casa_image(path: Path, fits_path: Path) -> None:
    """Write a CASA image beside a FITS file, with its beam, unit and mask.

    Raises
    ------
    UsageError
        If the image exists.
    """
    from casacore import images

    if path.exists():
        raise UsageError(f"{path}: exists already; choose another name or allow overwriting")
    images.image(str(fits_path)).saveas(str(path))
