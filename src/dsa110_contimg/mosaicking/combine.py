"""Combine tiles into a mosaic: `mean`, `weighted`, `pbweighted`.

With I the beam-corrected brightness of a tile, A its primary beam and s its rms before beam
correction (one number a tile):

- mean:        sum I / n                 over tiles with A >= 0.5 there
- weighted:    sum w I / sum w, w = 1/s2  over tiles with A >= 0.5 there
- pbweighted:  sum w I / sum w, w = A2/s2 over tiles with A >= 0.2 there; the weighting of least
  noise (Sault, Staveley-Smith and Brouw 1996, A&AS 120, 375, equation 1)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.mosaicking import METHODS
from dsa110_contimg.mosaicking import grid as grids

_LEAST_RESPONSE = {"mean": 0.5, "weighted": 0.5, "pbweighted": 0.2}
_PART_PIXELS = 2**23
"""Of the grid, computed at a time: what bounds the memory."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile to combine.

    Attributes
    ----------
    geometry : Image
        Where its pixels lie; their values are not looked at.
    rms_jy : float
        Noise before beam correction.
    load : callable
        Gives the restored image, not beam-corrected and finite everywhere, and its primary beam.
    """

    geometry: Image
    rms_jy: float
    load: Callable[[], tuple[Image, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Maps:
    """A mosaic and its maps, or a part of them, all of one shape.

    Attributes
    ----------
    brightness : ndarray of float32
        Jy per beam, NaN where nothing was observed.
    weight : ndarray of float32
        Sum of weights.
    rms : ndarray of float32
        Noise propagated from the tiles, Jy per beam.
    coverage : ndarray of float32
        Number of tiles.
    """

    brightness: np.ndarray
    weight: np.ndarray
    rms: np.ndarray
    coverage: np.ndarray


def combine(
    grid: grids.MosaicGrid, tiles: Sequence[Tile], method: str
) -> Iterator[tuple[grids.Box, Maps]]:
    """Combine tiles on a grid, a part at a time; one tile is held in memory at a time.

    Parameters
    ----------
    grid : MosaicGrid
    tiles : sequence of Tile
        In a fixed order: sums of floating-point numbers depend on it.
    method : {"mean", "weighted", "pbweighted"}

    Yields
    ------
    box : Box
        Part of the grid.
    maps : Maps
        Of that part.

    Raises
    ------
    UsageError
        For an unknown method.
    """
    if method not in METHODS:
        raise UsageError(f"unknown mosaic method {method!r}; choose one of {', '.join(METHODS)}")
    reach = [(box, tile) for tile in tiles for box in grid.boxes(tile.geometry)]
    for part in grid.whole.parts(_PART_PIXELS):
        touching = [(box, tile) for whole, tile in reach if (box := whole.within(part))]
        yield part, _combine_part(grid, part, touching, method)


def _combine_part(
    grid: grids.MosaicGrid, part: grids.Box, tiles: Sequence[tuple[grids.Box, Tile]], method: str
) -> Maps:
    least = _LEAST_RESPONSE[method]
    sum_wi, sum_w, sum_w2s2 = (np.zeros(part.shape) for _ in range(3))
    coverage = np.zeros(part.shape, np.float32)
    for box, tile in tiles:
        apparent, response = grids.resample(grid, box, *tile.load())
        with np.errstate(invalid="ignore"):
            seen = np.isfinite(apparent) & (response >= least)
        a = response[seen].astype(float)
        if method == "mean":
            w = np.ones_like(a)
        elif method == "weighted":
            w = np.full_like(a, tile.rms_jy**-2)
        else:
            w = (a / tile.rms_jy) ** 2
        at = box.relative_to(part).slices
        sum_wi[at][seen] += w * apparent[seen] / a
        sum_w[at][seen] += w
        sum_w2s2[at][seen] += (w * tile.rms_jy / a) ** 2
        coverage[at][seen] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        brightness = sum_wi / sum_w
        rms = np.sqrt(sum_w2s2) / sum_w
    return Maps(
        brightness.astype(np.float32), sum_w.astype(np.float32), rms.astype(np.float32), coverage
    )
