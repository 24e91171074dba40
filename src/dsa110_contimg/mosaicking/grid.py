"""One celestial grid for many tiles, and tiles resampled onto it.

Resampling is quintic B-spline interpolation (Thevenaz, Blu and Unser 2000, IEEE TMI 19, 739):
it keeps the peak of a beam three cells wide within 0.3 %, where cubic loses 1.2 %. The primary
beam is smooth over hundreds of cells and is resampled bilinearly, to a millionth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numba
import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking import splines
from dsa110_contimg.sky import astrometry, projections

_WIDEST_TAN_RAD = np.deg2rad(20.0)
"""From the centre; a tangent plane stretches by a tenth there."""
_HIGHEST_CEA_RAD = np.deg2rad(80.0)
_MOST_PIXELS = 2**31
_CELLS_PER_BEAM = 5


@dataclass(frozen=True)
class MosaicGrid:
    """Pixels of a mosaic.

    Attributes
    ----------
    projection : str
        TAN, or CEA for long strips.
    centre_rad : tuple of float
        ICRS position of the reference pixel.
    reference_pixel : tuple of float
        Zero-based column and row.
    shape : tuple of int
        Rows, columns.
    cell_rad : float
        At the reference pixel.
    """

    projection: str
    centre_rad: tuple[float, float]
    reference_pixel: tuple[float, float]
    shape: tuple[int, int]
    cell_rad: float

    def outline(self, tile: Image) -> np.ndarray:
        """Columns and rows of a tile's border, shape (n, 2); a tile is never torn in two."""
        plane = projections.to_plane(self.projection, self.centre_rad, _border(tile))
        if self.projection == "CEA":
            middle = astrometry.radec_to_vector(*tile.centre_rad)[None]
            centre = projections.to_plane(self.projection, self.centre_rad, middle)[0, 0]
            turn = self._turn_rad()
            plane[:, 0] += turn * np.round((centre - plane[:, 0]) / turn)
        return plane * [-1, 1] / self.cell_rad + self.reference_pixel

    def boxes(self, tile: Image) -> list["Box"]:
        """Parts of the grid that a tile can reach; two where a strip that goes all round ends."""
        outline = self.outline(tile)
        turns = [0.0]
        if self.projection == "CEA":
            turns += [-self._turn_rad() / self.cell_rad, self._turn_rad() / self.cell_rad]
        found = []
        for turn in turns:
            turned = outline + np.array([turn, 0])
            low = np.floor(turned.min(axis=0)).astype(int)
            high = np.ceil(turned.max(axis=0)).astype(int) + 1
            box = Box(int(low[1]), int(high[1]), int(low[0]), int(high[0])).within(self.whole)
            if box is not None:
                found.append(box)
        return found

    @property
    def whole(self) -> "Box":
        """The box of all pixels."""
        return Box(0, self.shape[0], 0, self.shape[1])

    def solid_angles_sr(self, box: "Box") -> np.ndarray:
        """Of the pixels of a box."""
        square = self.cell_rad**2
        if self.projection == "CEA":
            return np.full(box.shape, square)
        y, x = np.ogrid[box.y0 : box.y1, box.x0 : box.x1]
        distance = (x - self.reference_pixel[0]) ** 2 + (y - self.reference_pixel[1]) ** 2
        return square * (1 + distance * square) ** -1.5

    def image(self, pixels: np.ndarray) -> Image:
        """An image on this grid, without beam and unit."""
        return Image(
            pixels,
            self.centre_rad,
            self.reference_pixel,
            self.cell_rad,
            self.projection,
            None,
            "",
            0.0,
        )

    def _turn_rad(self) -> float:
        """Once round the sky, on the plane."""
        return 2 * np.pi * float(np.cos(self.centre_rad[1]))


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

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    def within(self, other: "Box") -> "Box | None":
        """What both share; None if nothing."""
        both = Box(
            max(self.y0, other.y0),
            min(self.y1, other.y1),
            max(self.x0, other.x0),
            min(self.x1, other.x1),
        )
        return both if both.y0 < both.y1 and both.x0 < both.x1 else None

    def relative_to(self, other: "Box") -> "Box":
        """The same box, counted from another's first row and column."""
        return Box(self.y0 - other.y0, self.y1 - other.y0, self.x0 - other.x0, self.x1 - other.x0)

    def parts(self, most_pixels: int) -> list["Box"]:
        """Cut along the longer side into boxes of about so many pixels at most."""
        rows, columns = self.shape
        n = -(-rows * columns // most_pixels)
        if columns >= rows:
            edges = np.linspace(self.x0, self.x1, n + 1).astype(int).tolist()
            return [Box(self.y0, self.y1, x0, x1) for x0, x1 in pairwise(edges)]
        edges = np.linspace(self.y0, self.y1, n + 1).astype(int).tolist()
        return [Box(y0, y1, self.x0, self.x1) for y0, y1 in pairwise(edges)]


def covering_grid(tiles: Sequence[Image], beam: RestoringBeam | None = None) -> MosaicGrid:
    """Smallest grid that covers all tiles: a tangent plane, or a strip if that is too small.

    Right ascension 0 h and the poles need no special case, because the centre is the mean of unit
    vectors; a strip's ends lie in the widest gap between tiles. No pixel is larger on the sky than
    the smallest of a tile, nor larger than a fifth of the beam: a parabola through the highest
    pixels is 0.6 % below the peak with four cells across the beam, and 0.25 % with five.

    Parameters
    ----------
    tiles : sequence of Image
        Their pixels are not looked at.
    beam : RestoringBeam, optional
        Of the mosaic; without it the tiles' cells decide.

    Raises
    ------
    UsageError
        If the tiles are too far apart for one picture.
    """
    border = np.vstack([_border(tile) for tile in tiles])
    cell = min(tile.cell_rad for tile in tiles)
    if beam is not None:
        cell = min(cell, beam.minor_rad / _CELLS_PER_BEAM)
    centres = np.array([astrometry.radec_to_vector(*tile.centre_rad) for tile in tiles])
    mean = centres.sum(axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-9)
    if (border @ mean).min() >= np.cos(_WIDEST_TAN_RAD):
        ra, dec = astrometry.vector_to_radec(mean)
        return _around(MosaicGrid("TAN", (float(ra), float(dec)), (0.0, 0.0), (0, 0), cell), tiles)
    _, dec = astrometry.vector_to_radec(border)
    if np.abs(dec).max() > _HIGHEST_CEA_RAD:
        raise UsageError(
            "the tiles lie too far apart, and too near a pole, for one mosaic; choose fewer with "
            "--since and --until"
        )
    middle = float(dec.min() + dec.max()) / 2
    stretch = np.cos(dec) / np.cos(middle)
    cell *= min(1.0, 1 / float(stretch.max()), float(stretch.min()))
    opposite = _opposite_of_widest_gap(np.array([tile.centre_rad[0] for tile in tiles]))
    return _around(MosaicGrid("CEA", (opposite, middle), (0.0, 0.0), (0, 0), cell), tiles)


def _around(grid: MosaicGrid, tiles: Sequence[Image]) -> MosaicGrid:
    """The grid with the extent of the tiles."""
    outline = np.vstack([grid.outline(tile) for tile in tiles])
    if grid.projection == "CEA":
        half = grid._turn_rad() / grid.cell_rad / 2
        outline[:, 0] = np.clip(outline[:, 0], -half, half)
    low, high = np.floor(outline.min(axis=0)), np.ceil(outline.max(axis=0))
    shape = (int(high[1] - low[1] + 1), int(high[0] - low[0] + 1))
    if shape[0] * shape[1] > _MOST_PIXELS:
        raise UsageError(
            f"the mosaic would have {shape[1]} x {shape[0]} pixels; choose fewer tiles with "
            "--since and --until"
        )
    return replace(grid, reference_pixel=(float(-low[0]), float(-low[1])), shape=shape)


def _opposite_of_widest_gap(ra_rad: np.ndarray) -> float:
    ordered = np.sort(np.mod(ra_rad, 2 * np.pi))
    gaps = np.diff(np.append(ordered, ordered[0] + 2 * np.pi))
    widest = int(gaps.argmax())
    return float(np.mod(ordered[widest] + gaps[widest] / 2 + np.pi, 2 * np.pi))


def _border(tile: Image) -> np.ndarray:
    """Unit vectors along a tile's border."""
    ny, nx = tile.pixels.shape
    along_x, along_y = np.linspace(0, nx - 1, 33), np.linspace(0, ny - 1, 33)
    x = np.concatenate([along_x, along_x, np.zeros(33), np.full(33, nx - 1)])
    y = np.concatenate([np.zeros(33), np.full(33, ny - 1), along_y, along_y])
    plane = np.stack([-(x - tile.reference_pixel[0]), y - tile.reference_pixel[1]], axis=1)
    return projections.to_sky(tile.projection, tile.centre_rad, plane * tile.cell_rad)


def resample(
    grid: MosaicGrid, box: Box, tile: Image, primary_beam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Resample a tile and its primary beam over a box of the grid.

    Parameters
    ----------
    grid : MosaicGrid
    box : Box
    tile : Image
        Finite everywhere.
    primary_beam : ndarray, shape of the tile

    Returns
    -------
    pixels, response : ndarray of float32, shape of the box
        NaN where the tile has no pixels.
    """
    rotation = (
        projections.frame(tile.projection, tile.centre_rad)
        @ projections.frame(grid.projection, grid.centre_rad).T
    )
    pixels = np.full(box.shape, np.nan, np.float32)
    response = np.full(box.shape, np.nan, np.float32)
    _interpolate(
        splines.coefficients(tile.pixels),
        np.ascontiguousarray(primary_beam, np.float32),
        rotation,
        projections.PROJECTIONS.index(grid.projection),
        grid.centre_rad[1],
        box.x0 - grid.reference_pixel[0],
        box.y0 - grid.reference_pixel[1],
        grid.cell_rad,
        projections.PROJECTIONS.index(tile.projection),
        tile.centre_rad[1],
        tile.cell_rad,
        tile.reference_pixel[0],
        tile.reference_pixel[1],
        pixels,
        response,
    )
    return pixels, response


@numba.njit(cache=True, error_model="numpy", fastmath=projections.FAST)
def _interpolate(
    coefficients: np.ndarray,
    primary_beam: np.ndarray,
    rotation: np.ndarray,
    grid_projection: int,
    grid_dec: float,
    first_x: float,
    first_y: float,
    grid_cell: float,
    tile_projection: int,
    tile_dec: float,
    tile_cell: float,
    tile_x: float,
    tile_y: float,
    pixels: np.ndarray,
    response: np.ndarray,
) -> None:
    ny, nx = primary_beam.shape
    # Indices without a sign need no check for negative ones.
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    four, five = np.uintp(4), np.uintp(5)
    grid_sin, grid_cos = np.sin(grid_dec), np.cos(grid_dec)
    tile_sin, tile_cos = np.sin(tile_dec), np.cos(tile_dec)
    for j in range(pixels.shape[0]):
        eta = (first_y + j) * grid_cell
        for i in range(pixels.shape[1]):
            xi = -(first_x + i) * grid_cell
            a, b, c = projections.direction(grid_projection, grid_sin, grid_cos, xi, eta)
            l, m = projections.position(
                tile_projection,
                tile_sin,
                tile_cos,
                rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c,
                rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c,
                rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c,
            )
            x = tile_x - l / tile_cell
            y = tile_y + m / tile_cell
            if not (0 <= x <= nx - 1 and 0 <= y <= ny - 1):
                continue
            column, row = min(int(x), nx - 2), min(int(y), ny - 2)
            tx, ty = x - column, y - row
            w0, w1, w2, w3, w4, w5 = splines.basis(tx)
            v0, v1, v2, v3, v4, v5 = splines.basis(ty)
            x0, y0 = np.uintp(column), np.uintp(row)
            x1, x2, x3, x4, x5 = x0 + one, x0 + two, x0 + three, x0 + four, x0 + five
            total = 0.0
            for y_, v in (
                (y0, v0),
                (y0 + one, v1),
                (y0 + two, v2),
                (y0 + three, v3),
                (y0 + four, v4),
                (y0 + five, v5),
            ):
                line = coefficients[y_]
                total += v * (
                    w0 * line[x0]
                    + w1 * line[x1]
                    + w2 * line[x2]
                    + w3 * line[x3]
                    + w4 * line[x4]
                    + w5 * line[x5]
                )
            pixels[j, i] = total
            below, above = primary_beam[y0], primary_beam[y0 + one]
            response[j, i] = (1 - ty) * ((1 - tx) * below[x0] + tx * below[x1]) + ty * (
                (1 - tx) * above[x0] + tx * above[x1]
            )
