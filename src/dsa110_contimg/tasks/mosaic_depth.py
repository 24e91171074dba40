"""Predict the noise of a mosaic before it is made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.errors import NothingToDo
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.mosaicking import combine, grid
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.tasks.tile_selection import select_tiles

_COARSE_PIXELS = 256
"""Noise varies slowly: it is predicted on at least so many pixels a side of a tile."""


@dataclass(frozen=True)
class Depth:
    """What a mosaic will reach.

    Attributes
    ----------
    median_rms_jy, best_rms_jy : float
        Of observed pixels.
    observed_deg2 : float
    """

    median_rms_jy: float
    best_rms_jy: float
    observed_deg2: float


def predict_depth(images: Sequence[ImagedTile], options: MosaicOptions) -> Depth:
    """Noise of a mosaic of the tiles that pass its gates.

    Parameters
    ----------
    images : sequence of ImagedTile
    options : MosaicOptions

    Raises
    ------
    NothingToDo
        If no tile passes the gates.
    """
    kept, _ = select_tiles(images, options)
    return depth_of(kept, [image.rms_jy for image in kept], options.method)


def depth_of(images: Sequence[ImagedTile], rms_jy: Sequence[float], method: str) -> Depth:
    """Noise of a mosaic: that of its tiles, combined on a coarse grid.

    Parameters
    ----------
    images : sequence of ImagedTile
    rms_jy : sequence of float
        Noise of each before beam correction.
    method : str
        Of `combine`.

    Raises
    ------
    NothingToDo
        If no tile sees any pixel within its beam.
    """
    tiles = [_coarse_tile(*one) for one in zip(images, rms_jy, strict=True)]
    area = grid.covering_grid([tile.geometry for tile in tiles])
    rms, observed_sr = [], 0.0
    for box, maps in combine.combine(area, tiles, method):
        seen = maps.coverage > 0
        rms.append(maps.rms[seen])
        observed_sr += float(area.solid_angles_sr(box)[seen].sum())
    if observed_sr == 0:
        raise NothingToDo("no tile sees any pixel within its beam; nothing to combine")
    found = np.concatenate(rms)
    return Depth(
        float(np.median(found)), float(found.min()), float(np.rad2deg(np.rad2deg(observed_sr)))
    )


def _coarse_tile(image: ImagedTile, rms_jy: float) -> combine.Tile:
    """A tile without content, thinned out."""
    whole = read_fits(image.file("pb"))
    step = max(1, min(whole.pixels.shape) // _COARSE_PIXELS)
    response = np.ascontiguousarray(whole.pixels[::step, ::step])
    x, y = whole.reference_pixel
    blank = replace(
        whole,
        pixels=np.zeros_like(response),
        cell_rad=whole.cell_rad * step,
        reference_pixel=(x / step, y / step),
    )
    return combine.Tile(blank, rms_jy, lambda: (blank, response))
