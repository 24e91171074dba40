"""One celestial grid for many tiles, and tiles resampled onto it.

Resampling is cubic B-spline interpolation (Thevenaz, Blu and Unser 2000, IEEE TMI 19, 739):
it keeps the peak of a beam four cells wide within 0.5 %, where bilinear loses 6 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.sky import astrometry


@dataclass(frozen=True)
class MosaicGrid:
    """A TAN grid.

    Attributes
    ----------
    centre_rad : tuple of float
        ICRS position of the reference pixel.
    reference_pixel : tuple of float
        Zero-based column and row.
    shape : tuple of int
        Rows, columns.
    cell_rad : float
    """

    centre_rad: tuple[float, float]
    reference_pixel: tuple[float, float]
    shape: tuple[int, int]
    cell_rad: float


@dataclass(frozen=True)
class Box:
    """Part of a grid: rows [y0, y1), columns [x0, x1)."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def covering_grid(tiles: Sequence[Image]) -> MosaicGrid:
    """Smallest grid about the tiles' mean direction that covers them all.

    Parameters
    ----------
    tiles : sequence of Image
        SIN images; right ascension 0 h and the poles need no special case because the mean is
        taken of unit vectors.
    """
    centres = np.array([astrometry.radec_to_vector(*tile.centre_rad) for tile in tiles])
    mean = centres.sum(axis=0)
    ra, dec = astrometry.vector_to_radec(mean / np.linalg.norm(mean))
    centre = (float(ra), float(dec))
    cell = min(tile.cell_rad for tile in tiles)
    outline = np.vstack([_outline_offsets(tile, centre) for tile in tiles]) / cell
    low, high = np.floor(outline.min(axis=0)).astype(int), np.ceil(outline.max(axis=0)).astype(int)
    return MosaicGrid(
        centre_rad=centre,
        reference_pixel=(float(-low[0]), float(-low[1])),
        shape=(int(high[1] - low[1] + 1), int(high[0] - low[0] + 1)),
        cell_rad=cell,
    )


def _outline_offsets(tile: Image, centre_rad: tuple[float, float]) -> np.ndarray:
    """Tangent-plane offsets (column direction, row direction), radians, of a tile's border."""
    ny, nx = tile.pixels.shape
    along_x, along_y = np.linspace(0, nx - 1, 33), np.linspace(0, ny - 1, 33)
    x = np.concatenate([along_x, along_x, np.zeros(33), np.full(33, nx - 1)])
    y = np.concatenate([np.zeros(33), np.full(33, ny - 1), along_y, along_y])
    l = -(x - tile.reference_pixel[0]) * tile.cell_rad
    m = (y - tile.reference_pixel[1]) * tile.cell_rad
    vectors = np.stack([l, m, np.sqrt(1 - l**2 - m**2)], axis=1) @ astrometry.tangent_axes(
        *tile.centre_rad
    )
    lmn = astrometry.direction_cosines(vectors, *centre_rad)
    return np.stack([-lmn[:, 0] / lmn[:, 2], lmn[:, 1] / lmn[:, 2]], axis=1)


def tile_box(grid: MosaicGrid, tile: Image) -> Box:
    """Part of the grid that a tile can reach."""
    offsets = _outline_offsets(tile, grid.centre_rad) / grid.cell_rad + grid.reference_pixel
    low = np.maximum(np.floor(offsets.min(axis=0)).astype(int), 0)
    high = np.ceil(offsets.max(axis=0)).astype(int) + 1
    return Box(
        int(low[1]), int(min(high[1], grid.shape[0])), int(low[0]), int(min(high[0], grid.shape[1]))
    )


def resample(grid: MosaicGrid, box: Box, tile: Image, planes: Sequence[np.ndarray]) -> np.ndarray:
    """Resample planes of one tile over a box of the grid.

    Parameters
    ----------
    grid : MosaicGrid
    box : Box
    tile : Image
        Geometry of the planes (SIN).
    planes : sequence of ndarray, shape (ny, nx)
        Finite everywhere.

    Returns
    -------
    ndarray of float32, shape (nplane, box rows, box columns)
        NaN where the tile has no pixels.
    """
    coefficients = np.stack(
        [
            ndimage.spline_filter(plane, order=3, output=np.float64, mode="mirror")
            for plane in planes
        ]
    )
    # Tangent plane of the grid to direction cosines of the tile: one rotation.
    rotation = (
        astrometry.tangent_axes(*tile.centre_rad) @ astrometry.tangent_axes(*grid.centre_rad).T
    )
    out = np.full((len(planes), box.y1 - box.y0, box.x1 - box.x0), np.nan, np.float32)
    _interpolate(
        coefficients, rotation, box.x0 - grid.reference_pixel[0], box.y0 - grid.reference_pixel[1],
        grid.cell_rad, tile.cell_rad, tile.reference_pixel[0], tile.reference_pixel[1], out,
    )  # fmt: skip
    return out


@numba.njit(cache=True, error_model="numpy")
def _interpolate(
    coefficients: np.ndarray, rotation: np.ndarray, first_x: float, first_y: float,
    grid_cell: float, tile_cell: float, tile_x: float, tile_y: float, out: np.ndarray,
) -> None:  # fmt: skip
    nplane, ny, nx = coefficients.shape
    wx, wy = np.empty(4), np.empty(4)
    for j in range(out.shape[1]):
        eta = (first_y + j) * grid_cell
        for i in range(out.shape[2]):
            xi = -(first_x + i) * grid_cell
            norm = 1 / np.sqrt(1 + xi * xi + eta * eta)
            l = (rotation[0, 0] * xi + rotation[0, 1] * eta + rotation[0, 2]) * norm
            m = (rotation[1, 0] * xi + rotation[1, 1] * eta + rotation[1, 2]) * norm
            n = (rotation[2, 0] * xi + rotation[2, 1] * eta + rotation[2, 2]) * norm
            x = tile_x - l / tile_cell
            y = tile_y + m / tile_cell
            if n <= 0 or not (0 <= x <= nx - 1 and 0 <= y <= ny - 1):
                continue
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            _basis(x - x0, wx)
            _basis(y - y0, wy)
            for p in range(nplane):
                total = 0.0
                for b in range(4):
                    row = _mirror(y0 + b - 1, ny)
                    part = 0.0
                    for a in range(4):
                        part += wx[a] * coefficients[p, row, _mirror(x0 + a - 1, nx)]
                    total += wy[b] * part
                out[p, j, i] = total


@numba.njit(cache=True)
def _basis(t: float, out: np.ndarray) -> None:
    out[0] = (1 - t) ** 3 / 6
    out[1] = 2 / 3 - t * t + t**3 / 2
    out[2] = 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2
    out[3] = t**3 / 6


@numba.njit(cache=True)
def _mirror(i: int, n: int) -> int:
    if i < 0:
        return -i
    return 2 * (n - 1) - i if i >= n else i
