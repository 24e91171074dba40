"""Combine tiles into a mosaic: `mean`, `weighted`, `pbweighted`.

With I the beam-corrected brightness of a tile, A its primary beam and s its rms before beam
correction (one number a tile):

- mean:        sum I / n                 over tiles with A >= 0.5 there
- weighted:    sum w I / sum w, w = 1/s2  over tiles with A >= 0.5 there
- pbweighted:  sum w I / sum w, w = A2/s2 over tiles with A >= 0.2 there; the weighting of least
  noise (Sault, Staveley-Smith and Brouw 1996, A&AS 120, 375, equation 1)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.mosaicking import METHODS
from dsa110_contimg.mosaicking import grid as grids

_LEAST_RESPONSE = {"mean": 0.5, "weighted": 0.5, "pbweighted": 0.2}


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile to combine.

    Attributes
    ----------
    apparent : Image
        Restored, not beam-corrected, SIN projection, finite everywhere.
    primary_beam : ndarray
        Response, same shape.
    rms_jy : float
        Noise before beam correction.
    """

    apparent: Image
    primary_beam: np.ndarray
    rms_jy: float


@dataclass(frozen=True, eq=False)
class Combined:
    """A mosaic and its maps, all on one grid.

    Attributes
    ----------
    grid : MosaicGrid
    brightness : ndarray of float32
        Jy per beam, NaN where nothing was observed.
    weight : ndarray of float32
        Sum of weights.
    rms : ndarray of float32
        Noise propagated from the tiles, Jy per beam.
    coverage : ndarray of float32
        Number of tiles.
    """

    grid: grids.MosaicGrid
    brightness: np.ndarray
    weight: np.ndarray
    rms: np.ndarray
    coverage: np.ndarray


def combine(grid: grids.MosaicGrid, tiles: Iterable[Tile], method: str) -> Combined:
    """Combine tiles on a grid; only one tile is held in memory at a time.

    Parameters
    ----------
    grid : MosaicGrid
    tiles : iterable of Tile
        In a fixed order: sums of floating-point numbers depend on it.
    method : {"mean", "weighted", "pbweighted"}

    Raises
    ------
    UsageError
        For an unknown method.
    """
    if method not in METHODS:
        raise UsageError(f"unknown mosaic method {method!r}; choose one of {', '.join(METHODS)}")
    least = _LEAST_RESPONSE[method]
    sum_wi, sum_w, sum_w2s2 = (np.zeros(grid.shape) for _ in range(3))
    coverage = np.zeros(grid.shape, np.float32)
    for tile in tiles:
        box = grids.tile_box(grid, tile.apparent)
        apparent, response = grids.resample(
            grid, box, tile.apparent, [tile.apparent.pixels, tile.primary_beam]
        )
        with np.errstate(invalid="ignore"):
            seen = np.isfinite(apparent) & (response >= least)
        a = response[seen].astype(float)
        if method == "mean":
            w = np.ones_like(a)
        elif method == "weighted":
            w = np.full_like(a, tile.rms_jy**-2)
        else:
            w = (a / tile.rms_jy) ** 2
        at = box.slices
        sum_wi[at][seen] += w * apparent[seen] / a
        sum_w[at][seen] += w
        sum_w2s2[at][seen] += (w * tile.rms_jy / a) ** 2
        coverage[at][seen] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        brightness = sum_wi / sum_w
        rms = np.sqrt(sum_w2s2) / sum_w
    return Combined(
        grid,
        brightness.astype(np.float32),
        sum_w.astype(np.float32),
        rms.astype(np.float32),
        coverage,
    )
