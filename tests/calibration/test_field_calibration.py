"""Pieces of calibrating fields in turn, on known truth; test_vla.py does it on real data."""

from pathlib import Path

import numpy as np
import pytest

from conftest import Processed
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import ConvertedTiles
from dsa110_contimg.calibration import delay, tables
from dsa110_contimg.calibration.fields import transfer_flux_scale
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.intervals import interpolated, solution_intervals
from dsa110_contimg.errors import BadInputError, CalibrationError


def _gains(values: np.ndarray, flags: np.ndarray | None = None) -> Gains:
    flags = np.zeros(values.shape, bool) if flags is None else flags
    return Gains(values, flags, np.full(values.shape, 50, np.float32))


def test_known_delays_come_back_through_noise_and_flagged_channels(
    rng: np.random.Generator,
) -> None:
    frequencies = 1.3e9 + 1e6 * np.arange(128)
    true = rng.uniform(-80e-9, 80e-9, (1, 6, 1, 2))
    none = np.zeros(true.shape, bool)
    gains = delay.delay_gains(true, none, frequencies, float(frequencies.mean())).values
    noise = 0.02 * (rng.normal(size=gains.shape) + 1j * rng.normal(size=gains.shape))
    flags = np.zeros(gains.shape, bool)
    flags[:, :, 30:50] = True
    flags[:, 2] = True
    found, bad = delay.fit_delays(_gains(gains + noise, flags), frequencies, frequencies.mean())
    assert bad[0, 2].all()
    assert not np.delete(bad, 2, axis=1).any()
    assert np.abs(np.delete(found - true, 2, axis=1)).max() < 0.05e-9


def test_too_few_channels_for_a_delay() -> None:
    with pytest.raises(CalibrationError, match="3 channels are too few"):
        delay.fit_delays(_gains(np.ones((1, 2, 3, 1), complex)), np.arange(3) + 1.0, 1.0)


def test_intervals_end_at_gaps_and_at_their_length() -> None:
    times = np.array([0.0, 10, 20, 30, 40, 400, 410, 420])
    assert solution_intervals(times, max_gap_s=100).tolist() == [0] * 5 + [1] * 3
    assert solution_intervals(times, 20.0, 100).tolist() == [0, 0, 1, 1, 2, 3, 3, 4]


def test_gains_are_interpolated_the_short_way_round_and_over_flagged_solutions() -> None:
    phases = np.deg2rad([170.0, 0.0, -170.0])
    values = (np.array([1.0, 9.0, 2.0]) * np.exp(1j * phases)).reshape(3, 1, 1, 1)
    flags = np.array([False, True, False]).reshape(3, 1, 1, 1)
    at = np.array([-5.0, 0.0, 10.0, 25.0])
    found = interpolated(_gains(values, flags), np.array([0.0, 10.0, 20.0]), at)
    assert np.allclose(np.abs(found.values.ravel()), [1.0, 1.0, 1.5, 2.0])
    assert np.allclose(np.rad2deg(np.angle(-found.values.ravel())), [-10.0, -10.0, 0.0, 10.0])
    assert not found.flags.any()
    strict = interpolated(_gains(values, flags), np.array([0.0, 10.0, 20.0]), at, False)
    assert strict.flags.ravel().tolist() == [False, False, True, False]


def test_flux_scale_is_the_square_of_the_ratio_of_gains(rng: np.random.Generator) -> None:
    reference = rng.uniform(0.5, 2.0, (2, 20, 1, 2)).astype(complex)
    flags = rng.uniform(size=reference.shape) < 0.1
    flux, error = transfer_flux_scale(
        _gains(reference[:1], flags[:1]), _gains(np.sqrt(2.5) * reference[:1], flags[1:])
    )
    assert flux == pytest.approx(2.5)
    assert error < 1e-9


def test_delay_tables_keep_what_was_written(processed: Processed, tmp_path: Path) -> None:
    ms = processed.result[ConvertedTiles].tiles[0].ms_path
    written = tables.read(processed.result[SolvedSet].path / "gains.g")
    shape = written.gains.values.shape
    table = tables.DelayTable(
        np.linspace(-9e-9, 9e-9, int(np.prod(shape))).reshape(shape),
        written.gains.flags,
        written.times_s,
        written.interval_s,
        written.antenna_names,
        float(tables.read(processed.result[SolvedSet].path / "bandpass.b").frequencies_hz.mean()),
        written.reference_antenna,
    )
    tables.write_delays(tmp_path / "a.k", table, ms)
    found = tables.read_delays(tmp_path / "a.k")
    assert np.allclose(found.delays_s, table.delays_s, atol=1e-15)
    assert found.reference_hz == pytest.approx(table.reference_hz)
    assert found.antenna_names == table.antenna_names
    with pytest.raises(BadInputError, match="K Jones solutions"):
        tables.read(tmp_path / "a.k")
