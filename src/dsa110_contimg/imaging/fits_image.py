"""Images as FITS files and CASA images, with beam, unit, frequency and dates.

Two axes only: what a continuum image has. Frequency and Stokes parameter are header cards.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.durable import whole
from dsa110_contimg.errors import BadInputError, UsageError, unreadable
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sky.projections import PROJECTIONS

_RAD = np.pi / 180
_FITS_BLOCK = 2880
_STRUCTURAL = {
    "SIMPLE",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "EXTEND",
    "BUNIT",
    "BTYPE",
    "STOKES",
    "RESTFRQ",
    "BMAJ",
    "BMIN",
    "BPA",
    "WCSAXES",
    "CRPIX1",
    "CRPIX2",
    "CDELT1",
    "CDELT2",
    "CUNIT1",
    "CUNIT2",
    "CTYPE1",
    "CTYPE2",
    "CRVAL1",
    "CRVAL2",
    "LONPOLE",
    "LATPOLE",
    "RADESYS",
    "PV2_1",
    "MJDREF",
    "COMMENT",
    "HISTORY",
    "",
}


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
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wcs(self) -> Any:
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
        return wcs


def write_fits(path: Path, image: Image) -> None:
    """Write a FITS file; the name appears only when it is complete.

    Raises
    ------
    UsageError
        If the file exists.
    """
    with create_fits(path, image) as pixels:
        pixels[:] = image.pixels


@contextlib.contextmanager
def create_fits(path: Path, image: Image) -> Iterator[np.ndarray]:
    """Write a FITS file piece by piece, in bounded memory.

    Parameters
    ----------
    path : Path
        The name appears when the block ends well.
    image : Image
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
        with part.open("wb") as file:
            file.write(cards)
            # What the disk does not hold must fail here, not in the map's memory.
            os.posix_fallocate(file.fileno(), 0, -(-size // _FITS_BLOCK) * _FITS_BLOCK)
        pixels = np.memmap(part, ">f4", "r+", len(cards), shape)
        yield pixels
        pixels.flush()


def _header(image: Image) -> Any:
    header = image.wcs.to_header()
    header["BUNIT"] = image.unit
    header["BTYPE"] = "Intensity"
    header["STOKES"] = "I"
    header["RESTFRQ"] = (image.frequency_hz, "[Hz] effective frequency")
    if image.beam is not None:
        header["BMAJ"] = (image.beam.major_rad / _RAD, "[deg]")
        header["BMIN"] = (image.beam.minor_rad / _RAD, "[deg]")
        header["BPA"] = (image.beam.position_angle_rad / _RAD, "[deg] north through east")
    for key, value in image.header.items():
        header[key] = value
    return header


def read_fits(path: Path) -> Image:
    """Read an image that `write_fits` or another program wrote (extra axes of length 1 allowed).

    Raises
    ------
    BadInputError
    """
    from astropy.io import fits
    from astropy.wcs import WCS, FITSFixedWarning

    try:
        with fits.open(path, memmap=False) as hdus:
            header = hdus[0].header
            pixels = hdus[0].data
    except OSError as error:
        raise unreadable(path, f"cannot be read as FITS ({error})", error) from error
    if pixels is None or pixels.squeeze().ndim != 2:
        raise BadInputError(f"{path}: holds no image of two axes")
    with warnings.catch_warnings():
        # Dates of other programs are written in many ways, and are not used here.
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header).celestial
    projection = wcs.wcs.ctype[0][-3:]
    if projection not in PROJECTIONS:
        known = ", ".join(PROJECTIONS)
        raise BadInputError(f"{path}: its projection {projection} is none of {known}")
    scale = np.abs(wcs.wcs.cdelt) * [abs(wcs.wcs.get_pc()[0, 0]), abs(wcs.wcs.get_pc()[1, 1])]
    if not np.isclose(scale[0], scale[1], rtol=1e-6):
        raise BadInputError(f"{path}: its pixels are not square")
    beam = None
    if "BMAJ" in header:
        beam = RestoringBeam(
            header["BMAJ"] * _RAD, header["BMIN"] * _RAD, header.get("BPA", 0.0) * _RAD
        )
    ra, dec, cell = wcs.wcs.crval[0] * _RAD, wcs.wcs.crval[1] * _RAD, float(scale[1]) * _RAD
    column, row = wcs.wcs.crpix[0] - 1, wcs.wcs.crpix[1] - 1
    if projection == "CEA":
        parallel = {(i, m): value for i, m, value in wcs.wcs.get_pv()}.get((2, 1), 1.0)
        side = -1.0 if row > pixels.squeeze().shape[0] / 2 else 1.0
        dec = side * float(np.arccos(np.sqrt(parallel)))
        cell *= np.cos(dec)
        row += np.tan(dec) / cell
    return Image(
        pixels=np.ascontiguousarray(pixels.squeeze(), dtype=np.float32),
        centre_rad=(ra, dec),
        reference_pixel=(column, row),
        cell_rad=cell,
        projection=projection,
        beam=beam,
        unit=str(header.get("BUNIT", "")),
        frequency_hz=float(header.get("RESTFRQ", 0.0)),
        header={k: header[k] for k in header if k not in _STRUCTURAL},
    )


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
