"""A piece of a large image, read without the rest."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.colours import png

MAX_SIDE_PX = 2048


def fits_bytes(path: Path, ra_deg: float, dec_deg: float, side_arcmin: float) -> bytes:
    """A square around a position as a FITS file, on the image's own pixels.

    Parameters
    ----------
    path : Path
    ra_deg, dec_deg : float
        ICRS.
    side_arcmin : float

    Raises
    ------
    UsageError
        If the position is not on the image, or the square too large.
    """
    from astropy.io import fits

    header, box = _box(path, ra_deg, dec_deg, side_arcmin)
    header["CRPIX1"] -= box[1].start
    header["CRPIX2"] -= box[0].start
    buffer = io.BytesIO()
    fits.PrimaryHDU(_pixels(path, box), header).writeto(buffer)
    return buffer.getvalue()


def png_bytes(
    path: Path, rms_path: Path, ra_deg: float, dec_deg: float, side_arcmin: float
) -> bytes:
    """The same as a picture, its stretch set by the noise there.

    Raises
    ------
    UsageError
    """
    _, box = _box(path, ra_deg, dec_deg, side_arcmin)
    rms = _pixels(rms_path, box)
    noise = rms[np.isfinite(rms) & (rms > 0)]
    return png(_pixels(path, box), float(np.median(noise)) if noise.size else 1.0)


def _box(
    path: Path, ra_deg: float, dec_deg: float, side_arcmin: float
) -> tuple[Any, tuple[slice, slice]]:
    """Header of the image; rows and columns of the square, as far as they are on it."""
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path) as hdus:
        ny, nx = hdus[0].shape
        header = hdus[0].header.copy()
    wcs = WCS(header, naxis=2)
    x, y = (float(v) for v in wcs.all_world2pix([[ra_deg, dec_deg]], 0)[0])
    half = 0.5 * side_arcmin / 60.0 / abs(wcs.wcs.cdelt[1])
    if not (np.isfinite(x) and 0 <= x <= nx - 1 and 0 <= y <= ny - 1):
        raise UsageError(f"{path.stem}: does not cover RA {ra_deg:g} Dec {dec_deg:g}")
    if 2 * half > MAX_SIDE_PX:
        most = 60.0 * abs(wcs.wcs.cdelt[1]) * MAX_SIDE_PX
        raise UsageError(
            f"size {side_arcmin:g}: a cut-out of this mosaic has at most {most:.0f} arcmin a side "
            f"({MAX_SIDE_PX} pixels)"
        )
    rows = slice(max(0, round(y - half)), min(ny, round(y + half) + 1))
    columns = slice(max(0, round(x - half)), min(nx, round(x + half) + 1))
    return header, (rows, columns)


def _pixels(path: Path, box: tuple[slice, slice]) -> np.ndarray:
    from astropy.io import fits

    with fits.open(path, memmap=True) as hdus:
        return np.array(hdus[0].data[box], np.float32)
