"""Antenna gains by alternating least squares (StefCal; Salvini and Wijnholds 2014, A&A 571, A97).

The model of a visibility is ``D_ij = g_i conj(g_j) M_ij``. Within a solution interval the
normal equations need only ``sum w D conj(M)`` and ``sum w |M|**2`` of each baseline, so the
data are read once and iterations cost antennas squared.
Outliers among blocks of samples lose their weight by iterative re-weighting with a Cauchy loss.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dsa110_contimg.calibration import solve_kernels
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolutionOptions
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.robust import CAUCHY_SCALE, component_variance

_ROWS_PER_BLOCK = 6
_CHANNELS_PER_BLOCK = 16
"""Samples are summed so far before outliers are looked for: interference is flagged by then."""
_LEAST_AMPLITUDE = 1e-6
"""Minimum amplitude of a gain, relative to the median amplitude."""
_ROBUST_ROUNDS = 2
"""Re-weightings after the first solution."""
_SYSTEMS_AT_ONCE = 8
"""Their matrices of 96 antennas fill the cache of a core."""
_NOISE_SAMPLES = 2_000_000
"""About as many sums the noise is measured on, where there are more."""


class Baselines(NamedTuple):
    """Antennas of each row.

    Attributes
    ----------
    antenna1, antenna2 : ndarray of int, shape (nrow,)
        Below `nantenna`.
    nantenna : int
    """

    antenna1: np.ndarray
    antenna2: np.ndarray
    nantenna: int


def solve_gains(
    data: np.ndarray,
    model: np.ndarray,
    weights: np.ndarray,
    baselines: Baselines,
    interval: np.ndarray,
    channel_bin: np.ndarray,
    options: SolutionOptions,
    *,
    flags: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
    phase_only: bool = False,
) -> Gains:
    """Solve gains of every antenna, interval, channel bin and polarization.

    Parameters
    ----------
    data : ndarray of complex, shape (nrow, nchan, npol)
        Of four polarizations the parallel hands, first and last, are solved.
    model : ndarray of complex, shape (nrow, nchan)
        Unpolarized: the same for each hand.
    weights : ndarray, shape (nrow, nchan, npol)
        Relative inverse variances; samples of none are left out.
    baselines : Baselines
    interval : ndarray of int, shape (nrow,)
        Solution interval of each row.
    channel_bin : ndarray of int, shape (nchan,)
        Frequency bin of each channel, ascending.
    options : SolutionOptions
        What a solution needs; others are flagged.
    flags : ndarray of bool, shape (nrow, nchan, npol), optional
        Samples to leave out.
    left_out : ndarray of bool, shape (nrow, nchan), optional
        More of them, of all polarizations.
    phase_only : bool
        Keep amplitudes at one.

    Raises
    ------
    CalibrationError
        If nothing could be solved.
    """
    if data.shape[2] == 4:
        data, weights = data[:, :, ::3], weights[:, :, ::3]
        flags = None if flags is None else flags[:, :, ::3]
    nothing = np.broadcast_to(False, data.shape)
    blocks = _Blocks.of(
        data,
        model,
        weights,
        nothing if flags is None else flags,
        nothing[:, :, 0] if left_out is None else left_out,
        (baselines.antenna1, baselines.antenna2, interval, channel_bin),
    )
    ninterval, nbin, npol = blocks.ends.size - 1, int(channel_bin.max()) + 1, data.shape[2]
    gains = np.ones((ninterval, nbin * npol, baselines.nantenna), np.complex128)
    bad = np.zeros(gains.shape, bool)
    error = np.full(gains.shape, np.inf)
    sigma2 = 0.0
    for _ in range(_ROBUST_ROUNDS + 1):
        residuals = [
            blocks.solve(
                k, (gains[k], bad[k], error[k]), sigma2, npol, options.min_baselines, phase_only
            )
            for k in range(ninterval)
        ]
        if bad.all():
            raise CalibrationError(
                "no antenna has enough unflagged baselines to solve for gains; "
                "look at the flags and at the sky model"
            )
        sigma2 = _noise_per_weight(np.concatenate(residuals))
    amplitude = np.abs(gains)
    snr = amplitude / (error * np.sqrt(sigma2))
    bad |= ~np.isfinite(gains)
    # A hand without signal may converge to a gain that nothing can be divided by.
    least = _LEAST_AMPLITUDE * np.median(amplitude[~bad])
    bad |= ~(snr >= options.min_snr) | (amplitude < least)
    gains[bad] = 1.0

    def shaped(values: np.ndarray) -> np.ndarray:
        by_bin = values.reshape(ninterval, nbin, npol, baselines.nantenna)
        return by_bin.transpose(0, 3, 1, 2).copy()

    return Gains(
        values=shaped(gains),
        flags=shaped(bad),
        snr=shaped(np.where(np.isfinite(snr), snr, 0).astype(np.float32)),
    )


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Sums over blocks of samples, of which each belongs to one interval, baseline and bin.

    Attributes
    ----------
    sums : ndarray of float32, shape (nblock, 3, nlane)
        Real and imaginary part of sum w D conj(M), and sum w |M|**2.
    antenna1, antenna2 : ndarray of int, shape (nblock,)
    ends : ndarray of int, shape (ninterval + 1,)
        Where the blocks of each interval begin and end.
    system : ndarray of int, shape (nlane,)
        Bin and polarization that each lane belongs to.
    sampled : ndarray of bool, shape (nblock,)
        Blocks that the noise is measured on.
    pairs, of_pair : ndarray
        Memory for the sums of one interval.
    """

    sums: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray
    ends: np.ndarray
    system: np.ndarray
    sampled: np.ndarray
    pairs: np.ndarray
    of_pair: np.ndarray

    @classmethod
    def of(
        cls,
        data: np.ndarray,
        model: np.ndarray,
        weights: np.ndarray,
        flags: np.ndarray,
        left_out: np.ndarray,
        indices: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    ) -> "_Blocks":
        """Read the data once; `indices` are antenna 1 and 2, interval, and channel bin."""
        antenna1, antenna2, interval, channel_bin = indices
        npol = data.shape[2]
        order, starts = _row_blocks(interval, antenna1, antenna2)
        first_row = order[starts[:-1]]
        ends = np.searchsorted(interval[first_row], np.arange(int(interval.max()) + 2))
        channel_block, first_channel = _channel_blocks(channel_bin)
        system = (channel_bin[first_channel][:, None] * npol + np.arange(npol)).ravel()
        sums = np.empty((first_row.size, 3, first_channel.size * npol), np.float32)
        solve_kernels.block_sums(
            data, model, weights, flags, left_out, order, starts, channel_block, sums
        )
        most = int(np.diff(ends).max())
        return cls(
            sums=sums,
            antenna1=antenna1[first_row],
            antenna2=antenna2[first_row],
            ends=ends,
            system=system,
            sampled=_some_blocks(sums),
            pairs=np.empty((most, *sums.shape[1:]), np.float32),
            of_pair=np.empty(most, np.int64),
        )

    def solve(
        self,
        k: int,
        solution: tuple[np.ndarray, np.ndarray, np.ndarray],
        sigma2: float,
        npol: int,
        min_baselines: int,
        phase_only: bool,
    ) -> np.ndarray:
        """Improve gains, flags and errors of one interval; returns residuals of some blocks."""
        gains, bad, error = solution
        its = slice(self.ends[k], self.ends[k + 1])
        a1, a2 = self.antenna1[its], self.antenna2[its]
        lanes = _in_lanes(gains, self.system)
        npair = solve_kernels.pair_sums(
            self.sums[its],
            a1,
            a2,
            lanes.real.copy(),
            lanes.imag.copy(),
            2 * CAUCHY_SCALE**2 * sigma2,
            self.pairs,
            self.of_pair,
        )
        at = self.of_pair[:npair]
        solve_kernels.solve_interval(
            self.pairs,
            a1[at],
            a2[at],
            self.system,
            _SYSTEMS_AT_ONCE // npol * npol,
            min_baselines,
            phase_only,
            sigma2 > 0,
            gains,
            bad,
            error,
        )
        some = self.sampled[its]
        lanes = _in_lanes(gains, self.system)
        return _residuals(self.sums[its][some], lanes[a1[some]], lanes[a2[some]])


def _row_blocks(
    interval: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in order of interval and baseline, and where blocks of a few of them begin and end."""
    order = np.lexsort((antenna2, antenna1, interval))
    keys = np.stack([interval[order], antenna1[order], antenna2[order]])
    new = np.any(np.diff(keys, axis=1, prepend=-1) != 0, axis=0)
    group = np.cumsum(new) - 1
    within = np.arange(order.size) - np.flatnonzero(new)[group]
    new |= within % _ROWS_PER_BLOCK == 0
    return order, np.append(np.flatnonzero(new), order.size)


def _channel_blocks(channel_bin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Block of each channel, and the first channel of each block, within ascending bins."""
    new = np.diff(channel_bin, prepend=-1) != 0
    within = np.arange(channel_bin.size) - np.flatnonzero(new)[np.cumsum(new) - 1]
    new |= within % _CHANNELS_PER_BLOCK == 0
    return np.cumsum(new) - 1, np.flatnonzero(new)


def _in_lanes(gains: np.ndarray, system: np.ndarray) -> np.ndarray:
    """Gains of systems, shape (nsystem, nantenna), as of the lanes that add to them.

    Returns
    -------
    ndarray of complex64, shape (nantenna, nlane)
    """
    return gains[system].astype(np.complex64).T.copy()


def _some_blocks(sums: np.ndarray) -> np.ndarray:
    """Which blocks the noise is taken of, shape (nblock,).

    By chance: at equal distances they would be of few times and baselines.
    """
    samples = sums.size // 3
    return np.random.default_rng(0).random(len(sums)) * samples < _NOISE_SAMPLES


def _residuals(sums: np.ndarray, gain1: np.ndarray, gain2: np.ndarray) -> np.ndarray:
    """Squared residuals per weight of blocks: ``|cross - g power|**2 / power``."""
    re, im, power = sums.swapaxes(0, 1)
    model = gain1 * np.conj(gain2) * power
    used = power > 0
    per_sigma = 1 / np.sqrt(power[used])
    return np.asarray(
        ((re - model.real)[used] * per_sigma) ** 2 + ((im - model.imag)[used] * per_sigma) ** 2
    )


def _noise_per_weight(residuals: np.ndarray) -> float:
    """Robust variance of sqrt(weight) * residual, per real component."""
    return component_variance(residuals) if residuals.size else 1.0
