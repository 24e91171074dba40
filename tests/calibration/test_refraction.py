"""The ionosphere moves the sky within a tile; sources keep their place and their flux density."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.calibration.refraction import SkyMotion, measure_motion
from dsa110_contimg.calibration.row_sums import sum_rows
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.calibration.within_tile import Changes, take_out
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

LIMITS = SolveOptions(uv_min_lambda=0.0)


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visibilities, SkyModel]:
    options = hour.RunOptions(groups=1, antennas=24, channels=1, seed=5, rfi=0.0)
    run = hour.prepare(options)
    files = run.write(tmp_path_factory.mktemp("tile"), 0)
    return conversion.read_observation(files, DSA110).vis, run.sky.model()


def _walk(vis: Visibilities, rms_arcsec: float) -> SkyMotion:
    rng = np.random.default_rng(1)
    steps = np.cumsum(rng.normal(size=(vis.times_jd.size, 2)), axis=0)
    steps -= steps.mean(axis=0)
    scale = rms_arcsec * ARCSEC_RAD / np.sqrt(np.mean(np.sum(steps**2, axis=1)))
    return SkyMotion(scale * steps, 0.0)


def _moved(vis: Visibilities, motion: SkyMotion) -> Visibilities:
    """What a sky that moves gives: the opposite of bringing it to rest."""
    return take_out(vis, Changes(SkyMotion(-motion.shift_rad, 0.0)))


def _unity(vis: Visibilities) -> Gains:
    shape = (1, len(vis.array.names), vis.frequencies_hz.size, 2)
    return Gains(np.ones(shape, complex), np.zeros(shape, bool), np.ones(shape, np.float32))


def test_motion_comes_back_in_size_and_direction(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, model = tile
    sky = predict.predict(vis, model)
    perfect = replace(
        vis, data=np.repeat(sky[:, :, None], 2, axis=2), flags=np.zeros(vis.flags.shape, bool)
    )
    true = _walk(perfect, 3.0)
    nothing = np.zeros(sky.shape, bool)
    moved = _moved(perfect, true)
    found = measure_motion(moved, sum_rows(moved, sky, _unity(vis), nothing))
    assert found.is_significant
    difference = found.shift_rad - true.shift_rad
    assert np.abs(difference).max() < 0.02 * np.abs(true.shift_rad).max()
    # A source north of its place has moved north: the model with that shift fits.
    north = SkyMotion(np.tile([0.0, ARCSEC_RAD], (vis.times_jd.size, 1)), 0.0)
    ra, dec = astrometry.vector_to_radec(model.directions)
    shifted = astrometry.radec_to_vector(ra, dec + ARCSEC_RAD)
    expected = predict.predict_apparent(
        vis, shifted, model.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    )
    error = np.abs(_moved(perfect, north).data[:, :, 0] - expected).max()
    assert error < 0.1 * np.abs(sky - expected).max()


def test_a_sky_at_rest_is_left_alone(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, model = tile
    solution = solve_reference(vis, model, LIMITS)
    again = calibrate_tile(
        replace(vis, data=vis.data.copy(), flags=vis.flags.copy()),
        solution.bandpass,
        solution.gains,
        model,
        LIMITS,
    )
    assert again.motion_rms_rad == 0.0


def test_flux_densities_survive_a_moving_sky(tile: tuple[Visibilities, SkyModel]) -> None:
    """A source seen by the longest baselines loses a twentieth where nothing is done."""
    vis, model = tile
    solution = solve_reference(vis, model, LIMITS)
    moving = _moved(vis, _walk(vis, 4.0))
    sky = predict.predict(vis, model)
    coherence = []
    for one in (vis, moving):
        made = calibrate_tile(
            replace(one, data=one.data.copy(), flags=one.flags.copy()),
            solution.bandpass,
            solution.gains,
            model,
            LIMITS,
        )
        long = np.hypot(*vis.uvw_m[:, :2].T) > 1000
        used = ~made.vis.flags[:, :, 0] & long[:, None]
        seen = np.sum((made.vis.data[:, :, 0] * np.conj(sky))[used]).real
        coherence.append(seen / np.sum(np.abs(sky[used]) ** 2))
    assert made.motion_rms_rad / ARCSEC_RAD == pytest.approx(4.0, rel=0.1)
    assert coherence[1] == pytest.approx(coherence[0], abs=0.01)


def test_a_reference_tile_with_a_moving_sky_gives_the_same_gains(
    tile: tuple[Visibilities, SkyModel], tmp_path: Path
) -> None:
    vis, model = tile
    still = solve_reference(vis, model, LIMITS)
    moving = solve_reference(_moved(vis, _walk(vis, 4.0)), model, LIMITS)
    both = ~(still.gains.flags | moving.gains.flags)
    ratio = np.abs(moving.gains.values[both] / still.gains.values[both])
    assert np.median(ratio) == pytest.approx(1.0, abs=0.003)
    assert np.std(ratio) < 0.02
