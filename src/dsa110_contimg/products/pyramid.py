"""An image as small squares, each level half as fine as the one below, for viewers that zoom."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import erfa
import numpy as np
from cachetools import LRUCache, cached

from dsa110_contimg.errors import UsageError, unreadable
from dsa110_contimg.imaging.colours import png

SIDE = 256
"""Pixels of a square."""
_KEPT_BYTES = 400_000_000
_ROWS_AT_ONCE = 512
_BORDER_POINTS = 33
_turn = threading.Lock()


@dataclass(frozen=True, eq=False)
class Pyramid:
    """All levels of an image.

    Attributes
    ----------
    levels : tuple of ndarray, shape (ny, nx)
        FITS order, Jy per beam, the finest first; that one stays on disk.
    wcs : astropy.wcs.WCS
        Of the finest.
    """

    levels: tuple[np.ndarray, ...]
    wcs: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the finest level."""
        ny, nx = self.levels[0].shape
        return ny, nx

    @property
    def size_bytes(self) -> int:
        """Of the levels in memory."""
        return sum(level.nbytes for level in self.levels[1:])

    def square(self, level: int, column: int, row: int, rms_jy: float) -> bytes:
        """One square as PNG, transparent where nothing was observed.

        Parameters
        ----------
        level : int
            0 is the finest.
        column, row : int
            Counted from the upper left.
        rms_jy : float
            Sets the stretch.

        Raises
        ------
        UsageError
            If there is none at that place.
        """
        if not 0 <= level < len(self.levels):
            raise UsageError(f"there are {len(self.levels)} levels")
        pixels = self.levels[level]
        ny, nx = pixels.shape
        top = ny - row * SIDE
        if not (0 <= column * SIDE < nx and row >= 0 and top > 0):
            raise UsageError("the square lies outside the image")
        part = pixels[max(top - SIDE, 0) : top, column * SIDE : (column + 1) * SIDE]
        return png(np.asarray(part, np.float32), rms_jy)

    def position(self, column: float, row: float) -> tuple[float, float]:
        """Right ascension and declination (degrees, ICRS) of a pixel counted from 0."""
        ra, dec = self.wcs.all_pix2world([[column, row]], 0)[0]
        return float(ra), float(dec)

    def reach_deg(self) -> float:
        """How far from its centre the border goes."""
        ny, nx = self.shape
        x, y = (np.linspace(0, n, _BORDER_POINTS) for n in (nx, ny))
        border = [(x, 0 * x), (x, 0 * x + ny), (0 * y, y), (0 * y + nx, y)]
        columns, rows = (np.concatenate(edges) for edges in zip(*border, strict=True))
        ra, dec = np.deg2rad(self.wcs.all_pix2world(columns, rows, 0))
        centre = np.deg2rad(self.position(nx / 2, ny / 2))
        return float(np.rad2deg(np.nanmax(erfa.seps(ra, dec, *centre))))

    def pixels(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
        """Columns and rows of positions, shape (n, 2); NaN for those on the far side."""
        if not ra_deg.size:
            return np.zeros((0, 2))
        return np.asarray(self.wcs.all_world2pix(np.stack([ra_deg, dec_deg], axis=1), 0))


def one_pixel(path: Path, column: int, row: int) -> float:
    """The value of one pixel of a FITS image, counted from 0, read without the rest."""
    from astropy.io import fits

    try:
        with fits.open(path, memmap=True) as hdus:
            return float(hdus[0].data[row, column])
    except OSError as error:
        raise unreadable(path, f"cannot be read as FITS ({error})", error) from error


def open_pyramid(path: Path) -> Pyramid:
    """The levels of a FITS image; those of the last ones are kept.

    Raises
    ------
    BadInputError
        If it cannot be read.
    """
    try:
        found = path.stat()
        # One at a time: whoever zooms asks for many squares at once.
        with _turn:
            return _pyramid(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise unreadable(path, f"cannot be read as FITS ({error})", error) from error


@cached(LRUCache(_KEPT_BYTES, getsizeof=lambda made: made.size_bytes))
def _pyramid(path: Path, _mtime_ns: int, _size: int) -> Pyramid:
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path, memmap=True) as hdus:
        wcs = WCS(hdus[0].header, naxis=2)
        levels = [hdus[0].data]
    while max(levels[-1].shape) > SIDE:
        levels.append(_halved(levels[-1]))
    return Pyramid(tuple(levels), wcs)


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Means of blocks of two by two, of what is finite; an odd last row or column stays alone."""
    ny, nx = pixels.shape
    out = np.empty((-(-ny // 2), -(-nx // 2)), np.float32)
    for first in range(0, ny, _ROWS_AT_ONCE):
        block = np.asarray(pixels[first : first + _ROWS_AT_ONCE], np.float32)
        block = np.pad(block, [(0, n % 2) for n in block.shape], constant_values=np.nan)
        seen = np.isfinite(block)
        # Sums along whole rows first: many times faster than of small blocks.
        total = _pairs_added(_pairs_added(np.where(seen, block, np.float32(0))).T).T
        count = _pairs_added(_pairs_added(seen.astype(np.uint8)).T).T
        with np.errstate(invalid="ignore"):
            out[first // 2 : first // 2 + total.shape[0]] = total / count
    return out


def _pairs_added(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows[0::2] + rows[1::2])
