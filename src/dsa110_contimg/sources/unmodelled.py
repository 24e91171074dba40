"""Find what the sky model of a tile does not hold, in an image of data minus model."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.tile import image_tile
from dsa110_contimg.imaging.weighting import ROBUST
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.visibilities.data import Visibilities

_IMAGING = TileImageOptions(
    size=1024,
    robust=ROBUST,
    averaging_loss=0.02,
    niter=10_000,
    auto_mask_sigma=5.0,
    auto_threshold_sigma=2.0,
    max_major=5,
)
_FOUND_SIGMA = 7.0
"""Minimum peak, relative to the noise of the image."""
_LOBE_BEAMS = 1.5
"""Reach of the main lobe of the point spread function, in major axes of the beam."""
_MIN_RESPONSE = 0.1
"""Farther out a small error of the beam is a large one of the flux density."""


def find_unmodelled(rest: Visibilities) -> tuple[SkyModel, float]:
    """Find compact sources, what sources of the model have too much, and what is left of the sky.

    Parameters
    ----------
    rest : Visibilities
        Calibrated data minus model.

    Returns
    -------
    SkyModel
        Differences to the model, of either sign, with the beam taken out.
    float
        Root of the sum of squares of apparent flux densities of sources that CLEAN does not find:
        what they add to the noise of the image, over the rms of the point spread function (Jy).
    """
    tile = image_tile(rest, None, _IMAGING)
    image = tile.plane(tile.apparent, rest.phase_centre_rad, "Jy/beam")
    reach = max(1, round(0.5 * tile.beam.major_rad / tile.cell_rad))
    noise = np.full(image.pixels.shape, tile.rms_jy)
    positions, flux = [np.zeros((0, 3))], [np.zeros(0)]
    for sign in (1, -1):
        pixels = sign * image.pixels
        peak = pixels == ndimage.maximum_filter(pixels, 2 * reach + 1)
        row, column = np.nonzero(
            peak & (pixels > _FOUND_SIGMA * tile.rms_jy) & (tile.primary_beam > _MIN_RESPONSE)
        )
        ra_deg, dec_deg = image.sky(column, row) if row.size else np.zeros((2, 0))
        found = measure_at(replace(image, pixels=pixels), noise, ra_deg, dec_deg)
        seen = found.observed
        dec = np.deg2rad(dec_deg[seen])
        positions.append(
            astrometry.radec_to_vector(
                np.deg2rad(ra_deg[seen]) + found.offset_east_rad[seen] / np.cos(dec),
                dec + found.offset_north_rad[seen],
            )
        )
        flux.append(sign * found.peak_jy[seen] / tile.primary_beam[row[seen], column[seen]])
    jansky = np.concatenate(flux)
    found_sources = SkyModel(
        np.concatenate(positions),
        jansky,
        np.full(jansky.size, DEFAULT_SPECTRAL_INDEX),
        tile.frequency_hz,
    )
    return found_sources, _left_jy(tile)


def _left_jy(tile: TileImage) -> float:
    excess = max(0.0, tile.rms_jy**2 - tile.thermal_jy**2)
    y, x = np.indices(tile.psf.shape) - tile.psf.shape[0] // 2
    sidelobes = tile.psf[np.hypot(x, y) * tile.cell_rad > _LOBE_BEAMS * tile.beam.major_rad]
    return float(np.sqrt(excess / np.mean(sidelobes**2, dtype=float)))
