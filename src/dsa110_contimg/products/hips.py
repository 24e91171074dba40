"""Images as HiPS (Fernique et al. 2015, A&A 578, A114; IVOA HiPS 1.0) with their MOC.

A HiPS is a tree of pictures of HEALPix cells, 512 pixels a side, that any viewer of the sky zooms
into. Cells of the finest order are drawn from an image; a cell of every coarser one is the mean of
its four children. Each cell comes as FITS (with its noise, so that several images can be added) and
as PNG.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ducc0
import numpy as np
from astropy.io import fits
from scipy import ndimage

from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.durable import replacing
from dsa110_contimg.imaging.colours import STRETCH_SIGMA, png
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.products.hips_properties import Described, properties, read_properties, text_of
from dsa110_contimg.sky import projections

if TYPE_CHECKING:
    from mocpy import MOC

TILE = 512
COARSEST_ORDER = 3
"""The one that viewers begin with."""
_TILE_ORDER = 9
_RMS_BLOCK = 8
"""Pixels a side that share one value of the noise, which varies slowly."""
_MOC_BLOCK_ORDER = 5
"""The map of what was observed has 32 elements along a cell's side."""
_OVERVIEW_SIDE, _OVERVIEW_COLUMNS = 64, 27
_STRIDE = 4
_MARGIN = 12


@dataclass(frozen=True, eq=False)
class Cell:
    """Pixels of a cell, rows upwards as in FITS.

    Attributes
    ----------
    pixels : ndarray of float32, shape (512, 512)
        Jy per beam; NaN where nothing was observed.
    rms : ndarray of float32, shape (64, 64)
        Noise of blocks of 8 by 8 pixels, Jy per beam; NaN where nothing was observed.
    """

    pixels: np.ndarray
    rms: np.ndarray


def order_for(cell_rad: float) -> int:
    """Order whose pixels are no larger than an image's."""
    order = COARSEST_ORDER
    while _pixel_rad(order) > cell_rad:
        order += 1
    return order


def cells_of(image: Image, order: int) -> list[int]:
    """Cells that an image's observed pixels lie in."""
    rows, columns = np.nonzero(np.isfinite(image.pixels[::_STRIDE, ::_STRIDE]))
    x, y = image.reference_pixel
    plane = np.stack(
        [-(columns * _STRIDE - x) * image.cell_rad, (rows * _STRIDE - y) * image.cell_rad], axis=1
    )
    vectors = projections.to_sky(image.projection, image.centre_rad, plane)
    return [int(number) for number in np.unique(_healpix(order).vec2pix(vectors))]


def draw(order: int, number: int, image: Image, rms: np.ndarray) -> Cell:
    """One cell of the finest order.

    Parameters
    ----------
    order, number : int
        Of HEALPix, nested.
    image : Image
    rms : ndarray, shape of the image
        Its noise, Jy per beam.
    """
    ny, nx = image.pixels.shape
    vectors = _pixel_vectors(order, number)
    plane = projections.to_plane(image.projection, image.centre_rad, vectors) / image.cell_rad
    x, y = image.reference_pixel[0] - plane[:, 0], image.reference_pixel[1] + plane[:, 1]
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    pixels = np.full(inside.size, np.nan, np.float32)
    noise = np.full(inside.size, np.nan, np.float32)
    if inside.any():
        x, y = x[inside], y[inside]
        x0, y0 = max(int(x.min()) - _MARGIN, 0), max(int(y.min()) - _MARGIN, 0)
        box = np.s_[y0 : int(y.max()) + _MARGIN + 1, x0 : int(x.max()) + _MARGIN + 1]
        at = np.stack([y - y0, x - x0])
        row, column = np.rint(at).astype(int)
        values = np.asarray(image.pixels[box], float)
        smooth = ndimage.map_coordinates(np.nan_to_num(values), at, order=3, mode="mirror")
        pixels[inside] = np.where(np.isfinite(values[row, column]), smooth, np.nan)
        noise[inside] = np.asarray(rms[box])[row, column]
    pixels[~(noise > 0)] = np.nan
    noise[~np.isfinite(pixels)] = np.nan
    blocks = _blocks(noise.reshape(TILE, TILE), _RMS_BLOCK)
    return Cell(pixels.reshape(TILE, TILE), _mean(blocks))


def combine(cells: Sequence[Cell]) -> Cell:
    """The mean of several images of one cell, weighted by their noise.

    Parameters
    ----------
    cells : sequence of Cell
    """
    total, weight = np.zeros((TILE, TILE)), np.zeros((TILE, TILE))
    for cell in cells:
        rms = np.repeat(np.repeat(cell.rms, _RMS_BLOCK, axis=0), _RMS_BLOCK, axis=1).astype(float)
        seen = np.isfinite(cell.pixels) & (rms > 0)
        total[seen] += cell.pixels[seen] / rms[seen] ** 2
        weight[seen] += rms[seen] ** -2.0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, noise = total / weight, np.where(weight > 0, weight**-0.5, np.nan)
    return Cell(mean.astype(np.float32), _mean(_blocks(noise, _RMS_BLOCK)))


def parent(children: Sequence[Cell | None]) -> Cell:
    """The cell above four children, in order of their numbers; None where there is none."""
    pixels = np.full((TILE, TILE), np.nan, np.float32)
    rms = np.full((TILE // _RMS_BLOCK, TILE // _RMS_BLOCK), np.nan, np.float32)
    for number, child in enumerate(children):
        if child is None:
            continue
        for whole, part in ((pixels, child.pixels), (rms, child.rms)):
            half = len(whole) // 2
            row, column = half * (1 - (number & 1)), half * (number >> 1)
            whole[row : row + half, column : column + half] = _mean(_blocks(part, 2))
    return Cell(pixels, rms)


def _blocks(pixels: np.ndarray, side: int) -> np.ndarray:
    """Blocks of so many pixels a side, along the last axis."""
    n = len(pixels) // side
    return pixels.reshape(n, side, n, side).swapaxes(1, 2).reshape(n, n, side**2)


def _mean(blocks: np.ndarray) -> np.ndarray:
    """Mean of what is finite in each block; NaN if nothing is."""
    seen = np.isfinite(blocks)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, blocks, 0).sum(axis=-1, dtype=float) / seen.sum(axis=-1)
    return np.asarray(mean, np.float32)


def _healpix(order: int) -> Any:
    return ducc0.healpix.Healpix_Base(2**order, "NEST")


def _pixel_vectors(order: int, number: int) -> np.ndarray:
    """Unit vectors of a cell's pixels, row by row.

    Columns go along the second axis of the HEALPix face, rows against the first.
    """
    row, column = np.indices((TILE, TILE)).reshape(2, -1)
    inside = _spread(TILE - 1 - row) + 2 * _spread(column)
    return np.asarray(_healpix(order + _TILE_ORDER).pix2vec(number * TILE**2 + inside))


def _spread(bits: np.ndarray) -> np.ndarray:
    """Bits moved apart: those of one axis within a nested number."""
    out = np.zeros_like(bits)
    for k in range(_TILE_ORDER):
        out |= ((bits >> k) & 1) << (2 * k)
    return out


@dataclass(frozen=True)
class Hips:
    """A HiPS on disk.

    Attributes
    ----------
    folder : Path
    order : int
        Its finest.
    rms_jy : float
        Noise that sets the stretch of the pictures, the same for all cells.
    frequency_hz : float
    sha256 : str
        Of the image it shows; empty for one of many.
    span_mjd : tuple of float or None
        First and last time of observation; None for images of earlier versions.
    """

    folder: Path
    order: int
    rms_jy: float
    frequency_hz: float
    sha256: str = ""
    span_mjd: tuple[float, float] | None = None

    def path(self, order: int, number: int, suffix: str) -> Path:
        """Where a cell lies."""
        group = number // 10000 * 10000
        return self.folder / f"Norder{order}" / f"Dir{group}" / f"Npix{number}.{suffix}"

    def numbers(self, order: int) -> list[int]:
        """Cells of an order that are there."""
        found = (self.folder / f"Norder{order}").glob("Dir*/Npix*.fits")
        return sorted(int(path.stem.removeprefix("Npix")) for path in found)

    def get(self, order: int, number: int) -> Cell | None:
        """A cell, or None."""
        path = self.path(order, number, "fits")
        if not path.exists():
            return None
        with fits.open(path, memmap=False) as hdus:
            return Cell(*(np.asarray(hdu.data, np.float32) for hdu in hdus[:2]))

    def put(self, order: int, number: int, cell: Cell) -> None:
        """Write a cell in place of what was there; take it away if nothing was observed."""
        path = self.path(order, number, "fits")
        if not np.isfinite(cell.pixels).any():
            path.unlink(missing_ok=True)
            path.with_suffix(".png").unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        primary = fits.PrimaryHDU(cell.pixels)
        primary.header["ORDER"], primary.header["NPIX"] = order, number
        primary.header["BUNIT"] = "Jy/beam"
        noise = fits.ImageHDU(cell.rms, name="RMS")
        buffer = io.BytesIO()
        fits.HDUList([primary, noise]).writeto(buffer)
        replace(path, buffer.getvalue())
        replace(path.with_suffix(".png"), png(cell.pixels, self.rms_jy))

    def raise_to_the_top(self, numbers: Iterable[int]) -> None:
        """Make everything above some cells of the finest order anew, and the overview."""
        touched = set(numbers)
        for order in range(self.order - 1, COARSEST_ORDER - 1, -1):
            touched = {number // 4 for number in touched}
            for number in sorted(touched):
                children = [self.get(order + 1, 4 * number + k) for k in range(4)]
                self.put(order, number, parent(children))
        self._write_overview()

    def observed(self, numbers: Iterable[int]) -> np.ndarray:
        """Elements (of order + 5) of some finest cells that were observed."""
        side, last = TILE >> _MOC_BLOCK_ORDER, 2**_MOC_BLOCK_ORDER - 1
        found = [np.zeros(0, np.int64)]
        for number in sorted(numbers):
            cell = self.get(self.order, number)
            if cell is not None:
                seen = _blocks(np.isfinite(cell.pixels), side).mean(axis=-1) > 0.5
                row, column = np.nonzero(seen)
                inside = _spread(last - row) + 2 * _spread(column)
                found.append(number * 4**_MOC_BLOCK_ORDER + inside)
        return np.concatenate(found)

    def finish(self, name: str, title: str, changed: Iterable[int] | None = None) -> None:
        """Write the map of what was observed, and the file that tells viewers what this is.

        Parameters
        ----------
        name, title : str
        changed : iterable of int, optional
            The only finest cells that changed since it was finished before.
        """
        from mocpy import MOC

        path = self.folder / "Moc.fits"
        some = None if changed is None or not path.exists() else sorted(changed)
        elements = self.observed(self.numbers(self.order) if some is None else some)
        order = self.order + _MOC_BLOCK_ORDER
        moc = _moc(elements, order)
        if some is not None:
            # MOC.difference of mocpy 0.21 is empty for maps that do not overlap.
            others = _moc(np.array(some), self.order).complement()
            moc = MOC.load(path, format="fits").intersection(others).union(moc)
        with replacing(path) as part:
            moc.save(part, format="fits")
        shown = Described(
            name=name,
            title=title,
            order=self.order,
            coarsest_order=COARSEST_ORDER,
            tile_width=TILE,
            n_cells=len(self.numbers(self.order)),
            pixel_rad=_pixel_rad(self.order),
            cuts_jy=(STRETCH_SIGMA[0] * self.rms_jy, STRETCH_SIGMA[1] * self.rms_jy),
            frequency_hz=self.frequency_hz,
            rms_jy=self.rms_jy,
            sha256=self.sha256,
            span_mjd=self.span_mjd,
        )
        lines = properties(shown, moc, read_properties(self.folder))
        replace(self.folder / "properties", text_of(lines).encode())

    @classmethod
    def open(cls, folder: Path) -> "Hips | None":
        """A finished one, or None."""
        found = read_properties(folder)
        if not found:
            return None
        # Of earlier versions, whose band had no width.
        frequency = found.get("dsa110_frequency_hz") or SPEED_OF_LIGHT_M_S / float(found["em_min"])
        span = (float(found["t_min"]), float(found["t_max"])) if "t_min" in found else None
        return cls(
            folder,
            int(found["hips_order"]),
            float(found["dsa110_rms_jy"]),
            float(frequency),
            found.get("dsa110_sha256", ""),
            span,
        )

    def _write_overview(self) -> None:
        """All cells of the coarsest order in one small picture, as viewers ask for it."""
        rows = -(-12 * 4**COARSEST_ORDER // _OVERVIEW_COLUMNS)
        side = _OVERVIEW_SIDE
        whole = np.full((rows * side, _OVERVIEW_COLUMNS * side), np.nan, np.float32)
        for number in self.numbers(COARSEST_ORDER):
            cell = self.get(COARSEST_ORDER, number)
            if cell is not None:
                row, column = divmod(number, _OVERVIEW_COLUMNS)
                part = _mean(_blocks(cell.pixels, TILE // side))[::-1]
                whole[row * side : (row + 1) * side, column * side : (column + 1) * side] = part
        path = self.folder / f"Norder{COARSEST_ORDER}" / "Allsky.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, png(whole[::-1], self.rms_jy))


def _moc(numbers: np.ndarray, order: int) -> "MOC":
    from mocpy import MOC

    depths = np.full(numbers.size, order, np.uint8)
    return MOC.from_healpix_cells(numbers.astype(np.uint64), depths, order)


def _pixel_rad(order: int) -> float:
    return float(np.sqrt(np.pi / 3) / 2 ** (order + _TILE_ORDER))


@cache
def empty_cell() -> bytes:
    """Picture of a cell where nothing was observed."""
    return png(np.full((TILE, TILE), np.nan, np.float32), 1.0)


def typical_rms_jy(rms: np.ndarray) -> float:
    """Median of an image's noise where it was observed."""
    return float(np.median(rms[np.isfinite(rms) & (rms > 0)]))


def replace(path: Path, content: bytes) -> None:
    """Put a file in place whole, whatever happens meanwhile."""
    with replacing(path) as part:
        part.write_bytes(content)
