"""Pictures of images with colour bars and coordinates, and of what their pixels are like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.quality.plots import BLUE, blank_figure, encoded
from dsa110_contimg.quality.preview import shrunk

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.axes import Axes

Scale = Literal["brightness", "noise", "count"]
_LONG_SIDE_PX = 1000
_BRIGHTEST_SIGMA = 50.0
_TICKS_SIGMA = (0, 5, 15, 50)
_PSF_BEAMS = 12.0
"""Width of the picture of a psf, in major axes of the beam."""
_HISTOGRAM_SIGMA = 8.0
_SAMPLE_PIXELS = 2**22


@dataclass(frozen=True)
class Map:
    """A map of a mosaic to draw.

    Attributes
    ----------
    title : str
    path : Path
        FITS file.
    scale : {"brightness", "noise", "count"}
        How its values become colours: by the noise, by their own range, or one by one.
    """

    title: str
    path: Path
    scale: Scale


def draw_maps(maps: Sequence[Map], rms_jy: float) -> bytes:
    """Draw maps of one shape below each other, each with a colour bar, as PNG.

    Parameters
    ----------
    maps : sequence of Map
    rms_jy : float
        Sets the colours of brightness.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    drawn = []
    for one in maps:
        with fits.open(one.path, memmap=True) as hdus:
            wcs, pixels = WCS(hdus[0].header, naxis=2), hdus[0].data
            factor = max(1, max(pixels.shape) // _LONG_SIDE_PX)
            drawn.append((one, shrunk(pixels, factor), wcs[::factor, ::factor]))
    ny, nx = drawn[0][1].shape
    width = 10.0
    height = max(1.2, 0.85 * width * ny / nx) + 0.85
    figure = blank_figure(width, len(drawn) * height)
    for k, (one, pixels, wcs) in enumerate(drawn, start=1):
        axes = figure.add_subplot(len(drawn), 1, k, projection=wcs)
        _draw_map(axes, one, pixels, rms_jy)
        _name_coordinates(axes)
    return encoded(figure)


def _draw_map(axes: "Axes", one: Map, pixels: np.ndarray, rms_jy: float) -> None:
    from matplotlib.colors import AsinhNorm, Normalize

    norm: Normalize
    if one.scale == "brightness":
        shown, unit, colours = 1e3 * pixels, "mJy/beam", "inferno"
        norm = AsinhNorm(5e3 * rms_jy, -3e3 * rms_jy, _BRIGHTEST_SIGMA * 1e3 * rms_jy)
    elif one.scale == "noise":
        shown, unit, colours = 1e3 * pixels, "mJy/beam", "viridis"
        norm = Normalize(*np.nanpercentile(shown, (1, 98)))
    else:
        shown, unit, colours = np.where(pixels > 0, pixels, np.nan), "tiles", "viridis"
        norm = Normalize(0, max(1.0, float(np.nanmax(pixels))))
    picture = axes.imshow(shown, origin="lower", cmap=colours, norm=norm, interpolation="nearest")
    bar = axes.figure.colorbar(
        picture,
        ax=axes,
        label=unit,
        pad=0.01,
        extend="neither" if one.scale == "count" else "both",
        aspect=12,
    )
    if one.scale == "brightness":
        ticks = [float(f"{1e3 * rms_jy * sigma:.1g}") for sigma in _TICKS_SIGMA]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
    elif one.scale == "count":
        step = 1 + int(np.nanmax(pixels)) // 6
        bar.set_ticks(list(range(0, int(np.nanmax(pixels)) + 1, step)))
    axes.set_title(one.title, fontsize=10, loc="left")


def _name_coordinates(axes: "WCSAxes") -> None:
    for coordinate, name in zip(axes.coords, ("right ascension", "declination"), strict=True):
        coordinate.set_axislabel(name, fontsize=8)
        coordinate.set_ticklabel(size=8)
        coordinate.grid(color="0.6", alpha=0.4, lw=0.4)
    axes.coords[0].set_major_formatter("hh:mm")
    axes.coords[1].set_major_formatter("dd:mm")


def draw_psf(psf: np.ndarray, cell_rad: float, beam: RestoringBeam) -> bytes:
    """Draw the middle of a psf, and cuts through it beside the restoring beam, as PNG.

    Parameters
    ----------
    psf : ndarray, shape (npix, npix)
        One in the middle.
    cell_rad : float
    beam : RestoringBeam
        That was fitted to it.
    """
    middle = psf.shape[0] // 2
    half = min(middle - 1, int(np.ceil(0.5 * _PSF_BEAMS * beam.major_rad / cell_rad)))
    part = psf[middle - half : middle + half + 1, middle - half : middle + half + 1]
    fitted = beam.image(2 * half + 2, cell_rad)[1:, 1:]
    reach = (half + 0.5) * cell_rad / ARCSEC_RAD
    offsets = np.arange(-half, half + 1) * cell_rad / ARCSEC_RAD
    figure = blank_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    picture = left.imshow(
        part,
        origin="lower",
        cmap="RdBu_r",
        vmin=-0.3,
        vmax=0.3,
        extent=(reach, -reach, -reach, reach),
    )
    figure.colorbar(picture, ax=left, label="response", extend="both")
    left.contour(-offsets, offsets, fitted, levels=[0.5], colors="black", linewidths=0.8)
    left.set(xlabel="east (arcsec)", ylabel="north (arcsec)")
    right.plot(-offsets, part[half], color=BLUE, lw=1, label="psf, east-west")
    right.plot(offsets, part[:, half], color="#b3561e", lw=1, label="psf, south-north")
    right.plot(-offsets, fitted[half], "--", color=BLUE, lw=0.8, label="restoring beam")
    right.plot(offsets, fitted[:, half], "--", color="#b3561e", lw=0.8)
    right.axhline(0, color="0.5", lw=0.8)
    right.set(xlabel="offset (arcsec)", ylabel="response", ylim=(-0.35, 1.05))
    right.legend(frameon=False, fontsize=8)
    return encoded(figure)


def draw_noise_histogram(brightness: Path, noise: Path) -> bytes:
    """Draw how often brightness is so many times the noise map, beside a Gaussian, as PNG.

    Parameters
    ----------
    brightness, noise : Path
        FITS files of one shape.
    """
    from astropy.io import fits

    with fits.open(brightness, memmap=True) as above, fits.open(noise, memmap=True) as below:
        rows = slice(None, None, 1 + above[0].data.size // _SAMPLE_PIXELS)
        ratio = np.asarray(above[0].data[rows], float) / np.asarray(below[0].data[rows], float)
    ratio = ratio[np.isfinite(ratio)]
    edges = np.linspace(-_HISTOGRAM_SIGMA, _HISTOGRAM_SIGMA, 129)
    counts, _ = np.histogram(ratio, edges)
    middles, step = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
    gaussian = ratio.size * step * np.exp(-0.5 * middles**2) / np.sqrt(2 * np.pi)
    figure = blank_figure(5.5, 4.2)
    axes = figure.add_subplot()
    axes.stairs(counts, edges, color=BLUE, label="pixels")
    axes.plot(middles, gaussian, color="0.3", lw=0.9, label="Gaussian of the noise map")
    # Sources are positive: the mirrored negative side is noise and artefacts alone.
    axes.stairs(counts[::-1], edges, color="#b3561e", lw=0.7, label="negative side, mirrored")
    axes.set(
        yscale="log",
        ylim=(0.5, 2 * max(counts.max(), 1)),
        xlabel="brightness / noise map",
        ylabel="pixels",
    )
    axes.legend(frameon=False, fontsize=8)
    return encoded(figure)
