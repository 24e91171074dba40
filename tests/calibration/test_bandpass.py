"""A bandpass uses no solution that rests on few samples, and none that came by chance."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import SmallRun
from dsa110_contimg.calibration import bandpass, predict
from dsa110_contimg.calibration.bandpass import (
    bridged,
    in_phase,
    smoothed,
    solve_bandpass,
    without_chance,
)
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion
from dsa110_contimg.visibilities.data import Visibilities

FREQUENCIES_HZ = 1.311e9 + 0.98e6 * np.arange(192)
LIMITS = SolveOptions(uv_min_lambda=0.0)


def _gains(rng: np.random.Generator, delay_ns: float, snr: float = 400.0) -> Gains:
    """Bandpasses of five antennas that are smooth apart from their noise, all of one delay."""
    offset = FREQUENCIES_HZ - FREQUENCIES_HZ.mean()
    smooth = 1 + 0.3 * np.cos(offset / 3e7) + 0.2j * np.sin(offset / 4e7)
    turned = smooth * np.exp(2j * np.pi * 1e-9 * delay_ns * offset)
    values = np.broadcast_to(turned[None, None, :, None], (1, 5, 192, 2)).copy()
    noise = rng.normal(size=values.shape) + 1j * rng.normal(size=values.shape)
    values *= 1 + noise / snr
    return Gains(values, np.zeros(values.shape, bool), np.full(values.shape, snr, np.float32))


@pytest.mark.parametrize("delay_ns", [0.0, -434.0, 2035.0])
def test_gaps_are_bridged_along_the_delay(rng: np.random.Generator, delay_ns: float) -> None:
    truth = _gains(rng, delay_ns, snr=1e6)
    given = _gains(np.random.default_rng(1), delay_ns)
    given.flags[0, 2, [40, 41, 90], 1] = True
    given.values[given.flags] = 1.0
    made = bridged(given, FREQUENCIES_HZ)
    assert not made.flags.any()
    assert np.abs(made.values / truth.values - 1).max() < 6 / 400
    untouched = ~given.flags
    assert np.array_equal(made.values[untouched], given.values[untouched])


def test_what_is_not_between_two_near_solutions_stays_flagged(rng: np.random.Generator) -> None:
    given = _gains(rng, 0.0)
    given.flags[0, 0, :2, 0] = True
    given.flags[0, 1, 60:72, 0] = True  # a sub-band that did not come
    given.flags[0, 3, :, 1] = True
    made = bridged(given, FREQUENCIES_HZ)
    assert np.array_equal(made.flags, given.flags)


def test_a_hand_that_is_solved_now_and_then_is_not_solved(rng: np.random.Generator) -> None:
    given = _gains(rng, 0.0)
    given.flags[0, 4, :, 0] = True
    given.flags[0, 4, [7, 90, 91], 0] = False
    given.flags[:, :, 100:190] = True  # half of the band did not come
    made = without_chance(given)
    assert made.flags[0, 4, :, 0].all()
    others = np.delete(np.arange(5), 4)
    assert np.array_equal(made.flags[0, others], given.flags[0, others])


def _with_delays(vis: Visibilities, rng: np.random.Generator) -> tuple[Gains, np.ndarray]:
    """Gains with large delays, whose common phase is another one in each channel; and the truth."""
    nant, nchan = len(vis.array.names), vis.frequencies_hz.size
    offset_hz = vis.frequencies_hz - vis.frequencies_hz.mean()
    delays_s = rng.normal(0.0, 100e-9, (nant, 1, 2))
    truth = np.exp(2j * np.pi * delays_s * offset_hz[None, :, None])[None]
    common = np.exp(1j * rng.uniform(-np.pi, np.pi, (1, 1, nchan, 2)))
    snr = np.full(truth.shape, 1e4, np.float32)
    return Gains(truth * common, np.zeros(truth.shape, bool), snr), truth


def _fringes(values: np.ndarray) -> np.ndarray:
    """Products of gains of all baselines, which a common phase leaves alone."""
    return np.asarray(values[0, :, None] * np.conj(values[0, None]))


def _narrow_channels(vis: Visibilities, nchan: int) -> Visibilities:
    """An array of the frequencies of a tile's middle; without data."""
    frequencies_hz = vis.frequencies_hz.mean() + 0.98e6 * (np.arange(nchan) - nchan / 2)
    return replace(vis, frequencies_hz=frequencies_hz)


def test_smoothing_leaves_delays_alone(
    tile: tuple[Visibilities, np.ndarray], rng: np.random.Generator
) -> None:
    vis = _narrow_channels(tile[0], 48)
    given, truth = _with_delays(vis, rng)
    given.values[0, 3, 20] *= 2.0  # lasting interference
    made = smoothed(given, vis, LIMITS)
    assert np.abs(_fringes(made.values) - _fringes(truth)).max() < 0.02


def test_phases_agree_where_the_reference_antenna_has_no_solution(
    tile: tuple[Visibilities, np.ndarray], rng: np.random.Generator
) -> None:
    vis = _narrow_channels(tile[0], 48)
    given, truth = _with_delays(vis, rng)
    _, reference = in_phase(given, vis, LIMITS)
    index = vis.array.names.index(reference)
    # Every antenna lacks as many solutions, so that the reference stays the same.
    given.flags[0, :, 30] = True
    given.flags[0, 1::2, 30] = False
    given.flags[0, :, 10] = ~given.flags[0, :, 30]
    given.values[given.flags] = 1.0
    referred, again = in_phase(given, vis, LIMITS)
    assert again == reference
    made = bridged(referred, vis.frequencies_hz)
    assert given.flags[0, index].any()
    assert not made.flags.any()
    assert np.abs(_fringes(made.values) - _fringes(truth)).max() < 0.05


@pytest.fixture(scope="module")
def tile(small_run: SmallRun) -> tuple[Visibilities, np.ndarray]:
    """A tile and its model."""
    vis = conversion.read_observation(small_run.files[1], DSA110).vis
    return vis, predict.predict(vis, small_run.run.sky.model())


def test_a_channel_that_interference_left_few_samples_of_is_interpolated(
    tile: tuple[Visibilities, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tile has eight integrations.
    monkeypatch.setattr(bandpass, "_FEW_SAMPLES", 2.0)
    vis, sky = tile
    alive = vis.antennas_present()
    no_rfi = np.zeros(sky.shape, bool)
    clean, reference, width = solve_bandpass(vis, sky, no_rfi, LIMITS, alive)
    assert width == 1
    antenna = next(a for a in alive if vis.array.names[a] != reference)
    rows = np.flatnonzero((vis.antenna1 == antenna) | (vis.antenna2 == antenna))
    spoilt = replace(vis, flags=vis.flags.copy(), data=vis.data.copy())
    spoilt.flags[rows, 7] = True
    few = rows[vis.time_index[rows] == 0]
    spoilt.flags[few, 7] = False
    spoilt.data[few, 7] *= 25.0
    made, _, _ = solve_bandpass(spoilt, sky, no_rfi, LIMITS, alive)
    ratio = np.abs(made.values[0, antenna, :, :] / clean.values[0, antenna, :, :])
    assert not made.flags[0, antenna, 7].any()
    assert ratio[7] == pytest.approx(1.0, abs=0.1)
    assert np.delete(ratio, 7, axis=0) == pytest.approx(1.0, abs=0.02)
