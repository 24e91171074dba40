"""Gains of single antennas drift during a tile; what the sky itself does is left alone."""

from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.drift import GainDrift, measure_drift
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.calibration.row_sums import sum_rows
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

_LIMITS = SolveOptions(uv_min_lambda=0.0)
_NOISE_JY = 0.5
_BRIGHTER = 20


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visibilities, SkyModel]:
    """Files of a simulated tile, whose phases drift by 12 degrees an hour."""
    run = hour.prepare(hour.RunOptions(groups=1, antennas=24, channels=1, seed=5, rfi=0.0))
    files = run.write(tmp_path_factory.mktemp("tile"), 0)
    return conversion.read_observation(files, DSA110).vis, run.sky.model()


@pytest.fixture(scope="module")
def calibrated(observed: tuple[Visibilities, SkyModel]) -> tuple[Visibilities, np.ndarray]:
    """The model of that tile, brighter, with noise; and the model."""
    vis, model = observed
    sky = _BRIGHTER * predict.predict(vis, model)
    rng = np.random.default_rng(1)
    noise = _NOISE_JY * rng.normal(size=(*vis.data.shape, 2)).astype(np.float32)
    data = sky[:, :, None] + noise.view(np.complex64)[..., 0]
    flags = np.zeros(data.shape, bool)
    return replace(vis, data=data, flags=flags, weights=np.ones(data.shape, np.float32)), sky


def _unity(vis: Visibilities) -> Gains:
    shape = (1, len(vis.array.names), vis.frequencies_hz.size, 2)
    return Gains(np.ones(shape, complex), np.zeros(shape, bool), np.ones(shape, np.float32))


def _measured(vis: Visibilities, sky: np.ndarray) -> GainDrift:
    return measure_drift(vis, sum_rows(vis, sky, _unity(vis), np.zeros(sky.shape, bool)))


def _drifted(vis: Visibilities, values: np.ndarray) -> Visibilities:
    return apply_gains(
        vis, GainDrift(-values, 0.0, np.ones(len(values))).gains, interval=vis.time_index
    )


def test_drifts_come_back(calibrated: tuple[Visibilities, np.ndarray]) -> None:
    vis, sky = calibrated
    rng = np.random.default_rng(2)
    time = np.linspace(-1, 1, vis.times_jd.size)
    rate, curve = rng.normal(0, [[[[0.01]]], [[[0.003]]]], (2, 1, len(vis.array.names), 2))
    true = 1j * (time[:, None, None] * rate + (1.5 * time**2 - 0.5)[:, None, None] * curve)
    found = _measured(_drifted(vis, true), sky)
    assert found.is_significant
    here = vis.antennas_present()
    # What all antennas have in common is not theirs.
    true, seen = true[:, here], found.values[:, here]
    left = seen - true
    left = left - np.mean(left, axis=1, keepdims=True)
    assert np.std(left.imag) < 0.02 * np.std(true.imag)


def test_a_hand_without_signal_takes_no_drift(calibrated: tuple[Visibilities, np.ndarray]) -> None:
    """Divided by a gain of nearly nothing, it holds large noise of little weight."""
    vis, sky = calibrated
    dead = vis.antennas_present()[3]
    its = (vis.antenna1 == dead) | (vis.antenna2 == dead)
    data, weights = vis.data.copy(), vis.weights.copy()
    data[its, :, 0] = 1e3 * (data[its, :, 0] - sky[its])
    weights[its, :, 0] /= 1e6
    found = _measured(replace(vis, data=data, weights=weights), sky)
    assert np.abs(found.values[:, dead, 0]).max() < 0.001


def test_steady_antennas_are_left_alone(calibrated: tuple[Visibilities, np.ndarray]) -> None:
    assert not _measured(*calibrated).is_significant


def test_a_source_that_fades_is_left_alone(calibrated: tuple[Visibilities, np.ndarray]) -> None:
    vis, sky = calibrated
    fades = (1 - 0.05 * np.linspace(-1, 1, vis.times_jd.size))[vis.time_index]
    found = _measured(replace(vis, data=vis.data * fades[:, None, None].astype(np.float32)), sky)
    assert np.abs(found.values).max() < 0.001
    assert found.sky_factor[0] == pytest.approx(1.05, abs=0.002)
    assert found.sky_factor[-1] == pytest.approx(0.95, abs=0.002)


def test_strong_sky_with_drifting_phases_is_not_flagged(
    calibrated: tuple[Visibilities, np.ndarray], observed: tuple[Visibilities, SkyModel]
) -> None:
    """A degree of drift leaves some Jy of a sky of a hundred, which is no interference."""
    vis, _ = calibrated
    model = replace(observed[1], flux_jy=_BRIGHTER * observed[1].flux_jy)
    rate = np.random.default_rng(3).normal(0, 0.02, (len(vis.array.names), 2))
    time = np.linspace(-1, 1, vis.times_jd.size)
    drifting = _drifted(vis, 1j * time[:, None, None] * rate)
    solution = solve_reference(drifting, model, _LIMITS)
    assert solution.rfi_fraction < 0.005
    result = calibrate_tile(
        replace(
            drifting,
            data=drifting.data.copy(),
            flags=drifting.flags.copy(),
            beam=solution.beam.shape,
        ),
        solution.bandpass,
        solution.gains,
        model,
        _LIMITS,
    )
    assert result.rfi_fraction < 0.005
    assert result.noise_jy == pytest.approx(_NOISE_JY, rel=0.05)
