"""Pictures of images for people: scale bar, restoring beam, noise-based stretch."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from dsa110_contimg.imaging.restore import RestoringBeam

_STRETCH_SIGMA = (-3.0, 25.0)


def save_preview(
    path: Path | BinaryIO,
    pixels: np.ndarray,
    rms_jy: float,
    cell_rad: float,
    beam: RestoringBeam | None,
    title: str,
    long_side_px: int = 1600,
) -> None:
    """Write a PNG of an image.

    Parameters
    ----------
    path : Path or file to write to
    pixels : ndarray, shape (ny, nx)
        FITS order; NaN is drawn as background.
    rms_jy : float
        Sets the stretch, from -3 to 25 times the noise, compressed above.
    cell_rad : float
    beam : RestoringBeam or None
    title : str
    long_side_px : int
        About this many pixels for the longer side.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse

    factor = max(1, max(pixels.shape) // (2 * long_side_px))
    pixels, cell_rad = shrunk(pixels, factor), cell_rad * factor
    ny, nx = pixels.shape
    dpi = 100
    width = long_side_px / dpi if nx >= ny else long_side_px / dpi * nx / ny
    figure = Figure(figsize=(width, max(width * ny / nx, 1.5)), dpi=dpi, facecolor="#0b1020")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), facecolor="#0b1020")
    low, high = (sigma * rms_jy for sigma in _STRETCH_SIGMA)
    stretched = np.arcsinh((np.clip(pixels, low, None) - low) / (5 * rms_jy))
    axes.imshow(
        stretched,
        origin="lower",
        cmap="inferno",
        vmin=0,
        vmax=float(np.arcsinh((high - low) / (5 * rms_jy))),
        interpolation="antialiased",
        aspect="equal",
    )
    axes.set_axis_off()
    bar_deg = 1.0 if nx * cell_rad > np.deg2rad(3) else 0.5
    bar = np.deg2rad(bar_deg) / cell_rad
    y = 0.06 * ny
    axes.plot([0.03 * nx, 0.03 * nx + bar], [y, y], color="white", lw=2)
    axes.text(
        0.03 * nx + bar / 2, y + 0.02 * ny, f"{bar_deg:g}°", color="white", ha="center", va="bottom"
    )
    if beam is not None:
        ellipse = Ellipse(
            (0.97 * nx, y),
            beam.minor_rad / cell_rad,
            beam.major_rad / cell_rad,
            angle=np.rad2deg(beam.position_angle_rad),
            facecolor="white",
            edgecolor="none",
        )
        axes.add_patch(ellipse)
    axes.text(
        0.03 * nx, 0.97 * ny, f"{title}   rms {1e3 * rms_jy:.2f} mJy/beam", color="white", va="top"
    )
    # No date or version in the file: equal images give equal pictures.
    # Noise does not compress: trying harder takes a second and saves little.
    figure.savefig(
        path, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1}
    )


def shrunk(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of pixels, taken row by row: the picture may be larger than the memory.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
    factor : int
        Pixels on each side of a block.
    """
    ny, nx = (n // factor for n in pixels.shape)
    rows = np.empty((ny, nx), np.float32)
    for y in range(ny):
        block = np.asarray(pixels[y * factor : (y + 1) * factor, : nx * factor], np.float32)
        rows[y] = block.reshape(factor, nx, factor).mean(axis=(0, 2))
    return rows
