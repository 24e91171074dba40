"""Injected interference is found and little else."""

import numpy as np
import pytest

from dsa110_contimg.visibilities.flagging import flag_array_wide, flag_interference

NTIME = 24


def _noise(nant: int, nchan: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Complex noise of unit variance in each part, both hands: shape (nrow, nchan, 2)."""
    i, j = np.triu_indices(nant, 1)
    shape = (NTIME * i.size, nchan, 2)
    data = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return data, np.tile(i, NTIME), np.tile(j, NTIME), np.repeat(np.arange(NTIME), i.size)


def _flags(data: np.ndarray, a1: np.ndarray, a2: np.ndarray, times: np.ndarray) -> np.ndarray:
    model = np.zeros(data.shape[:2], np.complex64)
    known = np.zeros(data.shape, bool)
    return flag_interference(data.astype(np.complex64), known, a1, a2, times, model)


@pytest.mark.parametrize("nchan", [32, 96])
@pytest.mark.parametrize("channel", [0, 1, 15, -1])
def test_a_transmitter_in_one_channel_is_found_also_at_the_edge_of_the_band(
    nchan: int, channel: int, rng: np.random.Generator
) -> None:
    data, a1, a2, times = _noise(8, nchan, rng)
    on = rng.uniform(size=NTIME) < 0.7
    data[on[times], channel] += 60 * np.exp(2j * np.pi * rng.uniform(size=(on[times].sum(), 2)))
    found = _flags(data, a1, a2, times)
    assert found[on[times], channel].all()
    assert np.delete(found, channel, axis=1).mean() < 0.02


def test_bursts_are_found_and_noise_is_kept(rng: np.random.Generator) -> None:
    data, a1, a2, times = _noise(12, 192, rng)
    hit = np.zeros(data.shape[:2], bool)
    for t, c in zip(rng.integers(0, NTIME - 3, 12), rng.integers(0, 184, 12), strict=True):
        hit[(times >= t) & (times < t + 3), c : c + 8] = True
    data[hit] += 8 * np.exp(2j * np.pi * rng.uniform(size=(hit.sum(), 2)))
    found = _flags(data, a1, a2, times)
    assert found[hit].mean() > 0.99
    assert found[~hit].mean() < 0.01


def test_noise_that_grows_along_the_band_is_not_interference(rng: np.random.Generator) -> None:
    data, a1, a2, times = _noise(8, 192, rng)
    data *= np.linspace(1, 3, 192)[:, None]
    assert _flags(data, a1, a2, times).mean() < 0.01


def test_an_absent_sub_band_takes_no_other_with_it(rng: np.random.Generator) -> None:
    data, a1, a2, times = _noise(8, 16, rng)
    known = np.zeros(data.shape, bool)
    known[:, [0, 2]] = True
    data[known] = 0
    model = np.zeros(data.shape[:2], np.complex64)
    found = flag_interference(data.astype(np.complex64), known, a1, a2, times, model)
    assert found.mean() < 0.02


def test_what_was_flagged_before_is_not_reported_again(rng: np.random.Generator) -> None:
    data, a1, a2, times = _noise(8, 96, rng)
    known = np.zeros(data.shape, bool)
    known[(a1 == 3) | (a2 == 3)] = True
    known[:, 40:50] = True
    data[known] = 1e3
    model = np.zeros(data.shape[:2], np.complex64)
    found = flag_interference(data.astype(np.complex64), known, a1, a2, times, model)
    assert not found[known.any(axis=2)].any()


def test_what_all_antennas_receive_is_found_below_the_noise_of_one_baseline(
    rng: np.random.Generator,
) -> None:
    data, a1, a2, times = _noise(16, 192, rng)
    hit = np.zeros(data.shape[:2], bool)
    hit[np.ix_((times >= 10) & (times < 13), np.arange(192) // 20 == 4)] = True
    data[hit] += 1.5 * np.exp(2j * np.pi * rng.uniform(size=(hit.sum(), 2)))
    found = flag_array_wide(data.astype(np.complex64), np.zeros(data.shape, bool), a1, a2, times)
    assert found[hit].mean() > 0.95
    assert found[~hit].mean() < 0.01


def test_a_strong_wide_burst_is_found_with_its_edges(rng: np.random.Generator) -> None:
    data, a1, a2, times = _noise(12, 192, rng)
    burst = np.zeros(data.shape[:2], bool)
    burst[np.ix_((times >= 4) & (times < 8), np.arange(192) // 24 == 3)] = True
    data[burst] += 80 * np.exp(2j * np.pi * rng.uniform(size=(burst.sum(), 2)))
    found = _flags(data, a1, a2, times)
    assert found[burst].all()
    assert found[~burst].mean() < 0.012
