"""Sources that the catalogue does not hold are found in the tile and join its model."""

from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sources.unmodelled import find_unmodelled
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

_LIMITS = SolveOptions(uv_min_lambda=100.0)
_NOISE_JY = 0.5


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visibilities, SkyModel, SkyModel]:
    """A tile of perfect gains with noise; its catalogue; and what differs from that."""
    run = hour.prepare(hour.RunOptions(groups=1, antennas=40, channels=1, seed=5, rfi=0.0))
    files = run.write(tmp_path_factory.mktemp("tile"), 0)
    vis, model = conversion.read_observation(files, DSA110).vis, run.sky.model()
    rng = np.random.default_rng(6)
    ra, dec = vis.phase_centre_rad
    # Apart by 0.25 degrees, and one source that has faded since the catalogue was made.
    east, north = 0.25 * np.mgrid[-4:5, -4:5].reshape(2, -1) + rng.uniform(-0.05, 0.05, (2, 81))
    places = astrometry.radec_to_vector(
        ra + np.deg2rad(east) / np.cos(dec), dec + np.deg2rad(north)
    )
    flux = rng.uniform(0.03, 0.08, len(places))
    brightest = int(np.argmax(predict.mean_apparent_jy(vis, model)))
    differs = SkyModel(
        np.vstack([places, model.directions[brightest]]),
        np.append(flux, -0.2),
        np.full(len(places) + 1, -0.7),
        model.reference_hz,
    )
    sky = predict.predict(vis, model) + predict.predict(vis, differs)
    noise = rng.normal(0, _NOISE_JY, (*vis.data.shape, 2)).astype(np.float32)
    data = sky[:, :, None] + noise.view(np.complex64)[..., 0]
    weights = np.full(data.shape, _NOISE_JY**-2, np.float32)
    vis = replace(vis, data=data, flags=np.zeros(data.shape, bool), weights=weights)
    return vis, model, differs


def test_they_are_found_where_they_are(tile: tuple[Visibilities, SkyModel, SkyModel]) -> None:
    vis, model, differs = tile
    found, _ = find_unmodelled(
        replace(vis, data=vis.data - predict.predict(vis, model)[:, :, None])
    )
    apparent = predict.mean_apparent_jy(vis, differs)
    clear = differs.select(np.flatnonzero(np.abs(apparent) > 0.015))
    assert len(clear) > 30
    apart = np.linalg.norm(found.directions[None] - clear.directions[:, None], axis=2)
    nearest = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < 10 * ARCSEC_RAD
    flux = found.flux_jy[nearest] * (clear.reference_hz / found.reference_hz) ** -0.7
    assert np.sign(flux) == pytest.approx(np.sign(clear.flux_jy))
    assert np.median(flux / clear.flux_jy) == pytest.approx(1, abs=0.05)
    assert len(found) < 1.2 * len(differs)


def test_they_no_longer_go_into_the_gains(tile: tuple[Visibilities, SkyModel, SkyModel]) -> None:
    vis, model, _ = tile
    errors = []
    for find in (None, find_unmodelled):
        solved = solve_reference(vis, model, _LIMITS, find_unmodelled=find)
        gains = (solved.bandpass.values * solved.gains.values)[~solved.bandpass.flags]
        errors.append(np.std(gains / gains.mean()))
        assert (solved.n_unmodelled > 0) == (find is not None)
    assert errors[1] < 0.8 * errors[0]


def test_what_cannot_be_found_is_measured_as_a_whole(
    tile: tuple[Visibilities, SkyModel, SkyModel],
) -> None:
    vis, _, _ = tile
    rng = np.random.default_rng(7)
    noise = rng.normal(0, _NOISE_JY, (*vis.data.shape, 2)).astype(np.float32)
    rest = replace(vis, data=noise.view(np.complex64)[..., 0])
    _, nothing_jy = find_unmodelled(rest)
    east, north = rng.uniform(-1.2, 1.2, (2, 1500))
    ra, dec = vis.phase_centre_rad
    places = astrometry.radec_to_vector(
        ra + np.deg2rad(east) / np.cos(dec), dec + np.deg2rad(north)
    )
    faint = SkyModel(places, np.full(1500, 0.004), np.full(1500, -0.7), 1.4e9)
    expected = np.sqrt(np.sum(predict.mean_apparent_jy(vis, faint) ** 2))
    found, left_jy = find_unmodelled(
        replace(rest, data=rest.data + predict.predict(vis, faint)[:, :, None])
    )
    assert len(found) < 75
    assert left_jy == pytest.approx(expected, rel=0.25)
    assert nothing_jy < 0.3 * expected
