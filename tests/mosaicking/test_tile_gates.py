"""Tiles that something is wrong with stay out of a mosaic, each for its own reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.quality.artefacts import find_artefacts
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sky.catalogues import Catalogue
from dsa110_contimg.tasks.tile_selection import select_tiles
from skies import CELL, RMS, Sky, imaged_tile


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a catalogue of sources between the tiles' edges."""
    root = tmp_path_factory.mktemp("root")
    rng = np.random.default_rng(3)
    ra, dec = np.meshgrid(np.arange(39.0, 42.2, 0.2), np.arange(19.5, 20.6, 0.2))
    order = np.argsort(dec.ravel(), kind="stable")
    flux = 0.06 + rng.exponential(0.15, order.size)
    catalogues.save(root, Catalogue("known", 1.4e9, ra.ravel()[order], dec.ravel()[order], flux))
    return root


def _tile(root: Path, folder: Path, number: int, spoil: Callable[[Image], Image]) -> ImagedTile:
    known = catalogues.load(root, "known")
    sky = Sky(known.ra_deg, known.dec_deg, known.flux_jy)
    return imaged_tile(
        folder,
        f"t{number}",
        1.7e9 + 309 * number,
        (40.2 + 0.4 * number, 20.0),
        sky,
        number,
        root,
        "known",
        spoil,
    )


def _with_pixels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Image], Image]:
    return lambda image: replace(image, pixels=change(image.pixels))


def _noisier(pixels: np.ndarray) -> np.ndarray:
    more = ndimage.gaussian_filter(np.random.default_rng(9).normal(size=pixels.shape), 1.7)
    return pixels + np.sqrt(8) * RMS / more.std() * more


def _striped(pixels: np.ndarray) -> np.ndarray:
    y, x = np.indices(pixels.shape)
    return pixels + RMS * np.sin(2 * np.pi * (0.031 * x + 0.02 * y))


def _ringed(pixels: np.ndarray) -> np.ndarray:
    y, x = np.indices(pixels.shape)
    return pixels + RMS * np.cos(2 * np.pi * 0.05 * np.hypot(x - 200, y - 300))


def _holed(pixels: np.ndarray) -> np.ndarray:
    holed = pixels.copy()
    holed[100, 100:103] = np.nan
    return holed


def _turned(image: Image) -> Image:
    return replace(image, centre_rad=(image.centre_rad[0], np.deg2rad(33.0)))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_with_pixels(_noisier), "rms .* above 2.5 times"),
        (_with_pixels(lambda p: np.roll(p, 2, axis=1)), "20.* arcsec off"),
        (_with_pixels(lambda p: 0.6 * p), "flux ratio to the catalogue, 0.[56]"),
        (_with_pixels(_striped), "stripes make"),
        (_with_pixels(_ringed), "rings make"),
        (_with_pixels(_holed), "3 pixels of its image are not finite"),
        (_turned, "another strip"),
        (lambda image: replace(image, cell_rad=1.3 * CELL), "cell of 13.00 arcsec"),
    ],
    ids=["noise", "shift", "flux", "stripes", "rings", "nan", "declination", "cell"],
)
def test_each_bad_tile_is_caught_by_the_gate_meant_for_it(
    spoil: Callable[[Image], Image], reason: str, sky: Path, tmp_path: Path
) -> None:
    good = [_tile(sky, tmp_path, number, lambda image: image) for number in range(3)]
    kept, left_out = select_tiles([*good, _tile(sky, tmp_path, 3, spoil)], MosaicOptions())
    assert [tile.tile_id for tile in kept] == ["t0", "t1", "t2"]
    assert list(left_out) == ["t3"]
    import re

    assert re.search(reason, left_out["t3"]), left_out


def test_a_pattern_is_told_as_its_share_of_the_variance() -> None:
    """Half the square of its height over the rms, against that and the noise."""
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(600, 700)), 1.7)
    noise /= noise.std()
    y, x = np.indices(noise.shape)
    for height in (0.5, 1.0, 2.0):
        expected = height**2 / 2 / (1 + height**2 / 2)
        wave = find_artefacts(noise + height * np.sin(2 * np.pi * (x / 40 - y / 75)))
        assert wave.stripe_share == pytest.approx(expected, rel=0.25)
        assert wave.stripe_cells == pytest.approx(1 / np.hypot(1 / 40, 1 / 75), rel=0.1)
    clean = find_artefacts(noise)
    assert max(clean.stripe_share, clean.ring_share) < 0.05
