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

import numba
import numpy as np

from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.mosaicking import METHODS, check_method
from dsa110_contimg.mosaicking import grid as grids

LEAST_RESPONSE = {"mean": 0.5, "weighted": 0.5, "pbweighted": 0.2}
"""Minimum response of a tile at the places that it contributes to, by method."""
_WEIGHTED, _PBWEIGHTED = METHODS.index("weighted"), METHODS.index("pbweighted")
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
    check_method(method)
    reach = [(box, tile) for tile in tiles for box in grid.boxes(tile.geometry)]
    for part in grid.whole.parts(_PART_PIXELS):
        touching = [(box, tile) for whole, tile in reach if (box := whole.within(part))]
        yield part, _combine_part(grid, part, touching, method)


def _combine_part(
    grid: grids.MosaicGrid, part: grids.Box, tiles: Sequence[tuple[grids.Box, Tile]], method: str
) -> Maps:
    sums = tuple(np.zeros(part.shape) for _ in range(3))
    coverage = np.zeros(part.shape, np.float32)
    for box, tile in tiles:
        at = box.relative_to(part).slices
        _add(
            *grids.resample(grid, box, *tile.load()),
            tile.rms_jy,
            METHODS.index(method),
            LEAST_RESPONSE[method],
            *(total[at] for total in sums),
            coverage[at],
        )
    brightness, weight, rms = (np.full(part.shape, np.nan, np.float32) for _ in range(3))
    _divide(*sums, brightness, weight, rms)
    return Maps(brightness, weight, rms, coverage)


@numba.njit(cache=True)
def _add(
    apparent: np.ndarray,
    response: np.ndarray,
    rms: float,
    method: int,
    least: float,
    sum_wi: np.ndarray,
    sum_w: np.ndarray,
    sum_w2s2: np.ndarray,
    coverage: np.ndarray,
) -> None:
    """Add one tile to the sums of its box."""
    for j in range(apparent.shape[0]):
        for i in range(apparent.shape[1]):
            a = np.float64(response[j, i])
            if not (a >= least and np.isfinite(apparent[j, i])):
                continue
            w = 1.0
            if method == _WEIGHTED:
                w = rms**-2
            elif method == _PBWEIGHTED:
                w = (a / rms) ** 2
            sum_wi[j, i] += w * apparent[j, i] / a
            sum_w[j, i] += w
            sum_w2s2[j, i] += (w * rms / a) ** 2
            coverage[j, i] += 1


@numba.njit(cache=True)
def _divide(
    sum_wi: np.ndarray,
    sum_w: np.ndarray,
    sum_w2s2: np.ndarray,
    brightness: np.ndarray,
    weight: np.ndarray,
    rms: np.ndarray,
) -> None:
    """Sums to maps; what nothing was added to stays NaN."""
    for j in range(sum_w.shape[0]):
        for i in range(sum_w.shape[1]):
            w = sum_w[j, i]
            weight[j, i] = w
            if w > 0:
                brightness[j, i] = sum_wi[j, i] / w
                rms[j, i] = np.sqrt(sum_w2s2[j, i]) / w
