"""Sources come out of an image, faint and close ones too."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, spatial

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sources.accuracy import noise_over_stated
from dsa110_contimg.sources.finding import find_sources

CELL = 10 * ARCSEC_RAD
CENTRE = (0.7, 0.3)
NOISE_JY = 1e-3
MAJOR, MINOR = 8.0, 3.6
"""Full widths at half maximum of the beam, in pixels."""
SIGMA = np.array([MAJOR, MINOR]) / np.sqrt(8 * np.log(2))


def _image(places: np.ndarray, jansky: np.ndarray, size: int, rng: np.random.Generator) -> Image:
    """Noise with the correlation of the beam, and points; places are (row, column)."""
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size)), SIGMA / np.sqrt(2))
    pixels = NOISE_JY * noise / noise.std()
    grid = np.indices((size, size))
    for place, flux in zip(places, jansky, strict=True):
        away = (grid - place[:, None, None]) / SIGMA[:, None, None]
        pixels += flux * np.exp(-0.5 * (away**2).sum(axis=0))
    beam = RestoringBeam(MAJOR * CELL, MINOR * CELL, 0.0)
    middle = float(size // 2)
    return Image(
        pixels.astype(np.float32), CENTRE, (middle, middle), CELL, "SIN", beam, "Jy/beam", 1.4e9
    )


def _found(image: Image, threshold: float) -> np.ndarray:
    """Places (row, column) of what is found."""
    sources = find_sources(Path("x.fits"), image, threshold)
    x, y = image.wcs.all_world2pix(sources.ra_deg, sources.dec_deg, 0)
    return np.column_stack([y, x])


def test_sources_of_nine_sigma_in_an_elongated_beam_are_all_found(rng: np.random.Generator) -> None:
    size, step = 480, 32
    axis = np.arange(step, size - step // 2, step) + 0.3
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    image = _image(places, np.full(len(places), 9 * NOISE_JY), size, rng)
    away, _ = spatial.KDTree(_found(image, 5.0)).query(places)
    assert np.mean(away < MAJOR / 3) >= 0.98


def test_two_sources_two_beams_apart_are_two(rng: np.random.Generator) -> None:
    places = np.array([[100.0, 100.0], [100.0, 100.0 + 2 * MINOR]])
    image = _image(places, np.array([60, 40]) * NOISE_JY, 200, rng)
    found = _found(image, 6.0)
    assert len(found) == 2
    away, _ = spatial.KDTree(found).query(places)
    assert away.max() < 1.0


@pytest.mark.parametrize("wide", [1.0, 2.0])
def test_one_source_is_one_row(rng: np.random.Generator, wide: float) -> None:
    place = np.array([[100.0, 100.0]])
    image = _image(place, np.array([200 * NOISE_JY]), 200, rng)
    resolved = ndimage.gaussian_filter(image.pixels, SIGMA * np.sqrt(wide**2 - 1))
    image = Image(**{**vars(image), "pixels": resolved})
    assert len(_found(image, 6.0)) == 1


@pytest.mark.accepts("Images", "Only blank pixels", "refused")
def test_a_blank_image_is_refused_before_anything_is_looked_for(rng: np.random.Generator) -> None:
    image = _image(np.zeros((0, 2)), np.zeros(0), 100, rng)
    blank = Image(**{**vars(image), "pixels": np.full_like(image.pixels, np.nan)})
    with pytest.raises(BadInputError, match=r"x\.fits: holds no observed pixel"):
        _found(blank, 6.0)


def test_the_noise_is_measured_without_the_sources(rng: np.random.Generator) -> None:
    places = rng.uniform(10, 290, (800, 2))
    jansky = 4 * NOISE_JY * rng.uniform(size=800) ** -1.0
    image = _image(places, jansky, 300, rng)
    ra, dec = image.wcs.all_pix2world(places[:, 1], places[:, 0], 0)
    stated = np.full(image.pixels.shape, 1.25 * NOISE_JY)
    assert noise_over_stated(image, stated, ra, dec, jansky) == pytest.approx(0.8, rel=0.05)
    assert noise_over_stated(image, stated, ra[:0], dec[:0], jansky[:0]) > 1.2
