"""Two images of the same sky side by side: what other options changed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from dsa110_contimg.artifacts.mosaics import companion
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image, write_fits
from dsa110_contimg.imaging.image_reader import read_companion, read_image
from dsa110_contimg.imaging.sky_image import SkyImage
from dsa110_contimg.mosaicking import grid
from dsa110_contimg.quality.preview import save_preview
from dsa110_contimg.robust import median_error, robust_rms
from dsa110_contimg.sources.finding import find_sources
from dsa110_contimg.sources.photometry import measure_at

_FOUND_SIGMA, _COMPARED_SIGMA = 6.0, 10.0
_INSIDE = 0.999


@dataclass(frozen=True)
class Comparison:
    """What differs between two images, over the pixels that both observed.

    Attributes
    ----------
    n_pixels : int
    rms_a_jy, rms_b_jy, rms_difference_jy : float
        Robust.
    largest_difference_jy : float
        Of a pixel.
    n_sources : int
        Found in the first above 10 times the noise and seen in both.
    flux_ratio, flux_ratio_error : float
        Median of second over first.
    east_arcsec, north_arcsec : float
        Median of second minus first.
    """

    n_pixels: int
    rms_a_jy: float
    rms_b_jy: float
    rms_difference_jy: float
    largest_difference_jy: float
    n_sources: int = 0
    flux_ratio: float = float("nan")
    flux_ratio_error: float = float("nan")
    east_arcsec: float = float("nan")
    north_arcsec: float = float("nan")


def compare(a: Path, b: Path, output: Path | None = None) -> Comparison:
    """Compare two images in Jy per beam.

    Parameters
    ----------
    a, b : Path
        FITS files; the second is brought to the pixels of the first.
    output : Path, optional
        FITS file for second minus first, with a picture beside it; must not exist.

    Raises
    ------
    BadInputError, UsageError
        If one cannot be read, or they have no sky in common.
    """
    first, second = read_image(a), read_image(b)
    other = _on_the_grid_of(first, second)
    common = np.isfinite(first.pixels) & np.isfinite(other)
    if not common.any():
        raise UsageError(f"{a} and {b}: have no observed pixel in common")
    difference = np.where(common, other - first.pixels, np.nan).astype(np.float32)
    rms = [robust_rms(pixels[common]) for pixels in (first.pixels, other, difference)]
    if output is not None:
        write_fits(output, replace(first, pixels=difference))
        scale = max(rms[2], 1e-3 * rms[0])
        picture = output.with_suffix(".png")
        save_preview(picture, difference, scale, first.cell_rad, first.beam, f"{b.stem} - {a.stem}")
    found = Comparison(
        n_pixels=int(common.sum()),
        rms_a_jy=rms[0],
        rms_b_jy=rms[1],
        rms_difference_jy=rms[2],
        largest_difference_jy=float(np.nanmax(np.abs(difference))),
    )
    return _with_sources(found, a, b, first, second)


def _on_the_grid_of(first: SkyImage, second: SkyImage) -> np.ndarray:
    """Pixels of the second image where those of the first lie."""
    if not (isinstance(first, Image) and isinstance(second, Image)):
        return _interpolated(first, second)
    same = (
        first.pixels.shape == second.pixels.shape
        and first.projection == second.projection
        and np.allclose(first.centre_rad, second.centre_rad, rtol=0, atol=1e-12)
        and np.allclose(first.reference_pixel, second.reference_pixel)
        and np.isclose(first.cell_rad, second.cell_rad)
    )
    if same:
        return second.pixels
    shape = (first.pixels.shape[0], first.pixels.shape[1])
    area = grid.MosaicGrid(
        first.projection, first.centre_rad, first.reference_pixel, shape, first.cell_rad
    )
    seen = np.isfinite(second.pixels)
    filled = replace(second, pixels=np.where(seen, second.pixels, 0).astype(np.float32))
    pixels, inside = grid.resample(area, area.whole, filled, seen.astype(np.float32))
    return np.where(inside >= _INSIDE, pixels, np.nan)


def _interpolated(first: SkyImage, second: SkyImage) -> np.ndarray:
    """The same by cubic splines, for images whose coordinates are any."""
    ny, nx = first.pixels.shape
    seen = np.isfinite(second.pixels)
    splines = ndimage.spline_filter(np.where(seen, second.pixels, 0).astype(float), 3)
    observed = seen.astype(np.float32)
    out = np.full((ny, nx), np.nan, np.float32)
    columns = np.arange(nx, dtype=float)
    for row in range(ny):
        x, y = second.pixel(*first.sky(columns, np.full(nx, float(row))))
        shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        at = np.stack([y[shown], x[shown]])
        whole = ndimage.map_coordinates(observed, at, order=1, cval=0.0)
        inside = shown[whole >= _INSIDE]
        at = np.stack([y[inside], x[inside]])
        out[row, inside] = ndimage.map_coordinates(splines, at, order=3, prefilter=False)
    return out


def _with_sources(
    found: Comparison, a: Path, b: Path, first: SkyImage, second: SkyImage
) -> Comparison:
    if first.beam is None:
        return found
    sources = find_sources(a, first, _FOUND_SIGMA)
    measured = [
        measure_at(image, _noise(path, image), sources.ra_deg, sources.dec_deg)
        for path, image in ((a, first), (b, second))
    ]
    good = np.ones(len(sources.ra_deg), bool)
    for one in measured:
        with np.errstate(invalid="ignore"):
            good &= one.observed & (one.peak_jy >= _COMPARED_SIGMA * one.noise_jy)
    if not good.any():
        return found
    ratio = measured[1].peak_jy[good] / measured[0].peak_jy[good]
    east, north = (
        np.median((getattr(measured[1], name) - getattr(measured[0], name))[good]) / ARCSEC_RAD
        for name in ("offset_east_rad", "offset_north_rad")
    )
    return replace(
        found,
        n_sources=int(good.sum()),
        flux_ratio=float(np.median(ratio)),
        flux_ratio_error=median_error(ratio) if ratio.size > 1 else float("nan"),
        east_arcsec=float(east),
        north_arcsec=float(north),
    )


def _noise(path: Path, image: SkyImage) -> np.ndarray:
    beside = companion(path, "rms")
    if beside.exists():
        return read_companion(beside, image)
    return np.full(
        image.pixels.shape, robust_rms(image.pixels[np.isfinite(image.pixels)]), np.float32
    )
