"""Small pictures of brightness: the same stretch everywhere, transparent where nothing is."""

import io

import numpy as np

STRETCH_SIGMA = (-2.0, 20.0)
"""Range of the pictures, in units of the noise; compressed from five on."""
_LINEAR_SIGMA = 5.0


def png(pixels: np.ndarray, rms_jy: float) -> bytes:
    """A PNG of an image in FITS order.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
        Jy per beam; NaN becomes transparent.
    rms_jy : float
    """
    from matplotlib import colormaps
    from PIL import Image as Picture

    low, high = (sigma * rms_jy for sigma in STRETCH_SIGMA)
    scale = _LINEAR_SIGMA * rms_jy
    with np.errstate(invalid="ignore"):
        bright = np.arcsinh((np.clip(pixels, low, high) - low) / scale)
    share = np.nan_to_num(bright / np.arcsinh((high - low) / scale))
    colours = colormaps["inferno"](share, bytes=True)
    colours[..., 3] = np.where(np.isfinite(pixels), 255, 0)
    buffer = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(colours[::-1])).save(buffer, format="png")
    return buffer.getvalue()
