"""Mosaics, photometry and catalogues: how long they take, mosaics beside `reproject`.

Run by `make products`. The mosaic is of ten tiles of 2048 x 2048 pixels, cubic interpolation in
both programs; differences are those of the inner pixels.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from reproject import reproject_interp
from reproject.mosaicking import reproject_and_coadd
from scipy import ndimage

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking import combine, grid
from dsa110_contimg.sky import catalogues, matching
from dsa110_contimg.sky.catalogues import Catalogue
from dsa110_contimg.sources import forced

_SIZE = 2048
_CELL = 5 * ARCSEC_RAD
_BEAM = RestoringBeam(5 * _CELL, 4 * _CELL, 0.5)


def _timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median seconds, and what came out."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), result


def _tiles(n: int, size: int) -> list[combine.Tile]:
    rng = np.random.default_rng(0)
    pixels = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1.7).astype(np.float32)
    for y, x in rng.integers(20, size - 20, (200, 2)):
        pixels[y - 10 : y + 11, x - 10 : x + 11] += rng.uniform(1, 100) * _BEAM.image(21, _CELL)
    response = np.ones((size, size), np.float32)

    def tile(number: int) -> combine.Tile:
        image = Image(
            pixels,
            (float(np.deg2rad(40 + 1.29 * number)), float(np.deg2rad(16.0))),
            (size / 2, size / 2),
            _CELL,
            "SIN",
            _BEAM,
            "Jy/beam",
            1.4e9,
        )
        return combine.Tile(image, 0.01, lambda: (image, response))

    return [tile(number) for number in range(n)]


def _ours(tiles: list[combine.Tile]) -> np.ndarray:
    area = grid.covering_grid([tile.geometry for tile in tiles])
    whole = np.full(area.shape, np.nan, np.float32)
    for box, maps in combine.combine(area, tiles, "mean"):
        whole[box.slices] = maps.brightness
    return whole


def mosaic() -> dict[str, Any]:
    """Ten tiles, against reproject."""
    tiles = _tiles(10, _SIZE)
    _ours(tiles[:2])
    mine_s, mine = _timed(lambda: _ours(tiles), 3)
    area = grid.covering_grid([tile.geometry for tile in tiles])
    wcs = area.image(np.zeros((1, 1))).wcs
    inputs = [(tile.load()[0].pixels.astype(float), tile.geometry.wcs) for tile in tiles]

    def theirs(parallel: int | bool) -> np.ndarray:
        pixels, _ = reproject_and_coadd(
            inputs,
            wcs,
            shape_out=area.shape,
            reproject_function=reproject_interp,
            order="bicubic",
            parallel=parallel,
        )
        return np.asarray(pixels)

    one_s, pixels = _timed(lambda: theirs(False), 1)
    two_s, _ = _timed(lambda: theirs(2), 1)
    both = np.isfinite(mine) & np.isfinite(pixels)
    both &= ndimage.binary_erosion(both, iterations=3)
    off = np.abs(mine[both] - pixels[both])
    return {
        "seconds": round(mine_s, 2),
        "reproject_seconds": round(one_s, 1),
        "reproject_two_processes_seconds": round(two_s, 1),
        "ratio": round(min(one_s, two_s) / mine_s, 1),
        "median_difference_of_rms": float(np.median(off) / mine[both].std()),
    }


def many() -> dict[str, Any]:
    """A hundred tiles of 1024 x 1024 into one strip: memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tiles = _tiles(1, 1024)
    first = tiles[0]
    strip = []
    for number in range(100):
        ra = float(np.deg2rad(40 + 1.29 * number))
        geometry = replace(first.geometry, centre_rad=(ra, first.geometry.centre_rad[1]))
        strip.append(
            replace(first, geometry=geometry, load=lambda g=geometry: (g, first.load()[1]))
        )
    area = grid.covering_grid([tile.geometry for tile in strip])

    def walk() -> int:
        return sum(int(maps.coverage.sum()) for _, maps in combine.combine(area, strip, "mean"))

    seconds, _ = _timed(walk, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "pixels": area.shape[0] * area.shape[1],
        "seconds": round(seconds, 1),
        "grown_mb": round((peak - before) / 1024),
    }


def sources() -> dict[str, Any]:
    """Forced photometry and cross-match of 10,000 sources; a search among a million."""
    rng = np.random.default_rng(1)
    image = _tiles(1, 4096)[0].load()[0]
    x, y = rng.uniform(50, 4046, (2, 10_000))
    ra, dec = image.wcs.all_pix2world(x, y, 0)
    noise = np.full(image.pixels.shape, 0.1)
    forced.measure(image, noise, ra[:10], dec[:10])
    photometry_s, _ = _timed(lambda: forced.measure(image, noise, ra, dec), 3)
    match_s, _ = _timed(lambda: matching.nearest(ra, dec, ra[::-1], dec[::-1], 10.0), 3)
    n = 1_000_000
    sky = Catalogue(
        "big",
        1.4e9,
        rng.uniform(0, 360, n),
        np.sort(np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))),
        rng.uniform(0, 1, n),
    )
    with tempfile.TemporaryDirectory() as folder:
        catalogues.save(Path(folder), sky)
        load_s, stored = _timed(lambda: catalogues.load(Path(folder), "big"), 3)
    cone_s, _ = _timed(lambda: stored.cone(180.0, 16.0, 2.0), 9)
    strip_s, _ = _timed(lambda: stored.between(14.0, 18.0), 9)
    return {
        "photometry_of_10000_s": round(photometry_s, 2),
        "match_of_10000_s": round(match_s, 3),
        "load_of_a_million_s": round(load_s, 3),
        "cone_of_a_million_s": round(cone_s, 4),
        "strip_of_a_million_s": round(strip_s, 4),
    }


def main() -> int:
    """Measure and print."""
    print(json.dumps({"many": many(), "mosaic": mosaic(), "sources": sources()}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
