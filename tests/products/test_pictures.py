"""Squares of images for viewers: what they show is what the image holds."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image as Picture

from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.imaging.colours import png
from dsa110_contimg.products.pyramid import SIDE, Pyramid, one_pixel, open_pyramid


def _colours(content: bytes) -> np.ndarray:
    """Red, green, blue and opacity in FITS order."""
    return np.asarray(Picture.open(io.BytesIO(content)).convert("RGBA"))[::-1].astype(int)


def test_brighter_is_lighter_and_nothing_is_transparent() -> None:
    pixels = np.linspace(-3.0, 25.0, 120, dtype=np.float32).reshape(8, 15)
    pixels[3, 4] = np.nan
    colours = _colours(png(pixels, 1.0))
    seen = np.isfinite(pixels)
    np.testing.assert_array_equal(colours[..., 3], np.where(seen, 255, 0))
    light = colours[..., :3].sum(axis=-1)[seen]
    assert (np.diff(light) >= 0).all()
    assert (light[0], np.unique(light).size > 90) == (light.min(), True)
    # What lies beyond the stretch is drawn like its end.
    assert light[-1] == light[pixels[seen] >= 20.0].min()


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    rng = np.random.default_rng(4)
    pixels = rng.normal(size=(601, 1203)).astype(np.float32)
    pixels[rng.uniform(size=pixels.shape) < 0.3] = np.nan
    pixels[:40] = np.nan
    header = fits.Header()
    for axis, (kind, value, step) in enumerate(
        [("RA---SIN", 359.9, -0.01), ("DEC--SIN", 16.0, 0.01)], start=1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"], header[f"CDELT{axis}"] = kind, value, step
        header[f"CRPIX{axis}"] = (1203, 601)[axis - 1] / 2 + 1
    path = tmp_path / "image.fits"
    fits.writeto(path, pixels, header)
    return open_pyramid(path)


def test_each_level_is_the_mean_of_what_was_observed_below(pyramid: Pyramid) -> None:
    assert [level.shape for level in pyramid.levels] == [
        (601, 1203),
        (301, 602),
        (151, 301),
        (76, 151),
    ]
    for fine, coarse in zip(pyramid.levels, pyramid.levels[1:], strict=False):
        for row, column in ((0, 0), (20, 3), (coarse.shape[0] - 1, coarse.shape[1] - 1), (70, 99)):
            block = fine[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            observed = block[np.isfinite(block)]
            expected = observed.mean() if observed.size else np.nan
            np.testing.assert_allclose(coarse[row, column], expected, rtol=1e-5)


def test_squares_are_counted_from_the_upper_left(pyramid: Pyramid) -> None:
    whole = _colours(png(np.asarray(pyramid.levels[0], np.float32), 0.5))
    last = _colours(pyramid.square(0, 4, 0, 0.5))
    np.testing.assert_array_equal(last, whole[601 - SIDE :, 4 * SIDE :])
    low = _colours(pyramid.square(0, 1, 2, 0.5))
    np.testing.assert_array_equal(low, whole[: 601 - 2 * SIDE, SIDE : 2 * SIDE])
    for outside in ((0, 5, 0), (0, 0, 3), (4, 0, 0), (-1, 0, 0), (0, -1, 0)):
        with pytest.raises(UsageError):
            pyramid.square(*outside, 0.5)


def test_positions_and_reach(pyramid: Pyramid) -> None:
    assert pyramid.position(601.5, 300.5) == pytest.approx((359.9, 16.0))
    at = pyramid.pixels(np.array([0.9]), np.array([16.0]))[0]
    assert at == pytest.approx((601.5 - np.cos(np.deg2rad(16)) * 100, 300.5), abs=0.3)
    assert pyramid.reach_deg() == pytest.approx(np.hypot(6.015, 3.005), rel=0.01)


def test_one_pixel_is_read_alone_and_what_is_no_image_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    fits.writeto(path, np.arange(12, dtype=np.float32).reshape(3, 4))
    assert one_pixel(path, 1, 2) == 9.0
    path.write_bytes(b"nothing")
    for read in (open_pyramid, lambda it: one_pixel(it, 0, 0)):
        with pytest.raises(BadInputError, match=r"image\.fits"):
            read(path)
