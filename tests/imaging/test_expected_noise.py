"""The expected noise of an image is the noise that receivers make in it."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import Processed
from dsa110_contimg.artifacts.tiles import CalibratedTiles
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.tile import image_tile
from dsa110_contimg.visibilities import measurement_set
from dsa110_contimg.visibilities.data import Visibilities

SEFD_JY = 5000.0


@pytest.fixture(scope="module")
def noise(processed: Processed) -> Visibilities:
    """Receivers of one SEFD, all samples of them good."""
    made = processed.result[CalibratedTiles].tiles[0]
    vis = measurement_set.read(made.ms_path)
    sigma_jy = SEFD_JY / np.sqrt(2 * vis.channel_width_hz[0] * vis.integration_s)
    parts = np.random.default_rng(3).normal(size=(*vis.data.shape, 2)) * sigma_jy
    return replace(
        vis,
        data=parts.astype(np.float32).view(np.complex64)[..., 0],
        flags=np.zeros(vis.data.shape, bool),
        weights=np.full(vis.data.shape, sigma_jy**-2, np.float32),
    )


@pytest.mark.parametrize("weighting", ["natural", "briggs", "uniform"])
def test_it_is_what_receivers_make(noise: Visibilities, weighting: str) -> None:
    options = TileImageOptions.model_validate(
        {"size": 512, "niter": 0, "weighting": weighting, "sefd_jy": SEFD_JY}
    )
    tile = image_tile(noise, None, options)
    # Uniform weights leave few independent values of noise in an image of so few baselines.
    assert tile.expected_rms_jy == pytest.approx(tile.rms_jy, rel=0.08)


def test_it_grows_with_what_is_flagged(noise: Visibilities) -> None:
    options = TileImageOptions(size=512, niter=0, weighting="natural", sefd_jy=SEFD_JY)
    whole = image_tile(noise, None, options).expected_rms_jy
    flags = noise.flags.copy()
    flags[:, ::2] = True
    flags[:, :, -1] = True
    quarter = image_tile(replace(noise, flags=flags), None, options)
    assert quarter.expected_rms_jy == pytest.approx(2 * whole, rel=0.01)
    assert quarter.expected_rms_jy == pytest.approx(quarter.rms_jy, rel=0.04)
