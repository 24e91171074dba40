"""A piece of a large image, read without the rest."""

import io
from pathlib import Path

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

    header, pixels = _cut(path, ra_deg, dec_deg, side_arcmin)
    buffer = io.BytesIO()
    fits.PrimaryHDU(pixels, header).writeto(buffer)
    return buffer.getvalue()


def png_bytes(
    path: Path, rms_path: Path, ra_deg: float, dec_deg: float, side_arcmin: float
) -> bytes:
    """The same as a picture, its stretch set by the noise there.

    Raises
    ------
    UsageError
    """
    _, pixels = _cut(path, ra_deg, dec_deg, side_arcmin)
    _, rms = _cut(rms_path, ra_deg, dec_deg, side_arcmin)
    noise = rms[np.isfinite(rms) & (rms > 0)]
    return png(pixels, float(np.median(noise)) if noise.size else 1.0)


def _cut(path: Path, ra_deg: float, dec_deg: float, side_arcmin: float):  # type: ignore[no-untyped-def]
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path, memmap=True) as hdus:
        header = hdus[0].header
        wcs = WCS(header)
        x, y = (float(v) for v in wcs.all_world2pix([[ra_deg, dec_deg]], 0)[0])
        ny, nx = hdus[0].shape
        half = 0.5 * side_arcmin / 60.0 / abs(wcs.wcs.cdelt[1])
        if not (np.isfinite(x) and 0 <= x <= nx - 1 and 0 <= y <= ny - 1):
            raise UsageError(f"{path.stem}: does not cover RA {ra_deg:g} Dec {dec_deg:g}")
        if 2 * half > MAX_SIDE_PX:
            raise UsageError(f"a cut-out has at most {MAX_SIDE_PX} pixels a side; ask for less")
        x0, x1 = max(0, round(x - half)), min(nx, round(x + half) + 1)
        y0, y1 = max(0, round(y - half)), min(ny, round(y + half) + 1)
        pixels = np.array(hdus[0].section[y0:y1, x0:x1], np.float32)
        piece = header.copy()
    piece["CRPIX1"] -= x0
    piece["CRPIX2"] -= y0
    return piece, pixels
