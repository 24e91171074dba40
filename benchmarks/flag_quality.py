"""Interference of known places and strengths: how much of it is found, and what else is flagged."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import peer_programs
import steps
from dsa110_contimg.visibilities import measurement_set

_LINES, _BURSTS, _PULSES = 12, 16, 2
_STRENGTH = (3.0, 100.0)
"""Of an emitter, in noises of a sample, spread evenly in logarithm."""
_SEEN = 3.0


@dataclass(frozen=True)
class FlagQuality:
    """Shares.

    Attributes
    ----------
    recall : float
        Of the injected samples above three sigma in their polarization, flagged.
    false : float
        Of the samples without interference, flagged.
    """

    recall: float
    false: float

    def __str__(self) -> str:
        return f"recall {100 * self.recall:.1f} %, false {100 * self.false:.2f} %"


def compare(work: Path, antennas: int, channels: int, peers: bool) -> list[tuple[str, FlagQuality]]:
    """Inject into a tile without interference; flag it here, and by the aoflagger command."""
    steps.simulate(work, antennas, channels, rfi=0.0)
    tile = steps.convert(work, work / "ms" / "raw.ms")
    known, truth, strength = _inject(tile.ms_path, np.random.default_rng(1))
    found = []
    if peers:
        copy = work / "ms" / "ao.ms"
        shutil.copytree(tile.ms_path, copy)
        peer_programs.run(["aoflagger", "-j", steps.WORKERS, copy])
        found.append(("aoflagger", _quality(copy, known, truth, strength)))
        shutil.rmtree(copy)
    applied = steps.apply(
        work, tile, steps.solve(work, tile, work / "cal" / "set"), work / "ms" / "cal.ms"
    )
    return [("ours", _quality(applied.ms_path, known, truth, strength)), *found]


def _inject(ms: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add lines, bursts and pulses; returns flags before, where it was added, and its sigmas."""
    from casacore.tables import table

    vis = measurement_set.read(ms)
    ntime, nchan = int(vis.time_index.max()) + 1, vis.frequencies_hz.size
    nrow, npol = vis.data.shape[0], vis.data.shape[2]
    # Per row and polarization, free of the sky, which changes little from channel to channel.
    step = np.abs(np.diff(vis.data.real, axis=1))
    sigma = 1.4826 / np.sqrt(2) * np.median(step, axis=1)
    on = []
    for _ in range(_LINES):
        on.append((rng.integers(nchan), 1, rng.uniform(size=ntime) < 0.5))
    for _ in range(_BURSTS):
        start, length = rng.integers(ntime - 4), rng.integers(1, 5)
        on.append(
            (
                rng.integers(nchan - 32),
                rng.integers(8, 33),
                (np.arange(ntime) >= start) & (np.arange(ntime) < start + length),
            )
        )
    for _ in range(_PULSES):
        on.append((0, nchan, np.arange(ntime) == rng.integers(ntime)))
    baseline = vis.antenna1 * (vis.antenna2.max() + 1) + vis.antenna2
    sigmas = np.zeros((nrow, nchan, npol), np.float32)
    added = np.zeros((nrow, nchan, npol), np.complex64)
    for first, width, times in on:
        strength = np.exp(rng.uniform(*np.log(_STRENGTH)))
        share = rng.uniform(0.5, 1, (baseline.max() + 1, npol))[baseline]
        phase = np.exp(2j * np.pi * rng.uniform(size=baseline.max() + 1))[baseline]
        rows = np.flatnonzero(times[vis.time_index])
        values = (strength * share * sigma * phase[:, None])[rows, None]
        added[rows, first : first + width] += values
    np.divide(np.abs(added), sigma[:, None], out=sigmas, where=sigma[:, None] > 0)
    with table(str(ms), readonly=False, ack=False) as columns:
        columns.putcol("DATA", vis.data + added)
    return vis.flags, added != 0, sigmas


def _quality(ms: Path, known: np.ndarray, truth: np.ndarray, sigmas: np.ndarray) -> FlagQuality:
    flags = measurement_set.read(ms).flags
    there = ~known
    return FlagQuality(
        recall=float(flags[there & (sigmas > _SEEN)].mean()),
        false=float(flags[there & ~truth].mean()),
    )
