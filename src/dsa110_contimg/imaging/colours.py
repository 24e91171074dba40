"""Small pictures of brightness: the same stretch everywhere, transparent where nothing is."""

import io
from functools import cache

import numpy as np

STRETCH_SIGMA = (-2.0, 20.0)
"""Range of the pictures, in units of the noise; compressed from five on."""
_LINEAR_SIGMA = 5.0
_COLOURS = 255
"""Beside the one that is transparent, number 0: a byte a pixel."""


def png(pixels: np.ndarray, rms_jy: float) -> bytes:
    """A PNG of an image in FITS order.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
        Jy per beam; NaN becomes transparent.
    rms_jy : float
    """
    from PIL import Image as Picture

    # Where nothing was observed there is no noise.
    rms_jy = rms_jy if rms_jy > 0 else 1.0
    low, high = (np.float32(sigma * rms_jy) for sigma in STRETCH_SIGMA)
    scale = np.float32(_LINEAR_SIGMA * rms_jy)
    seen = np.isfinite(pixels)
    bright = np.arcsinh((np.clip(np.where(seen, pixels, low), low, high) - low) / scale)
    number = 1 + np.rint(bright * ((_COLOURS - 1) / np.arcsinh((high - low) / scale)))
    picture = Picture.fromarray(np.where(seen, number, 0).astype(np.uint8)[::-1])
    picture.putpalette(_palette())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", transparency=0)
    return buffer.getvalue()


@cache
def _palette() -> bytes:
    from matplotlib import colormaps

    shades = colormaps["inferno"](np.linspace(0, 1, _COLOURS), bytes=True)[:, :3]
    return bytes(3) + shades.tobytes()
