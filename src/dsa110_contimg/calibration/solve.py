"""Antenna gains by alternating least squares (StefCal; Salvini and Wijnholds 2014, A&A 571, A97).

The model of a visibility is ``D_ij = g_i conj(g_j) M_ij``. Within a solution interval the
normal equations need only ``sum w D conj(M)`` and ``sum w |M|**2`` of each baseline, so the
data are read once and iterations cost antennas squared.
Outliers among blocks of samples lose their weight by iterative re-weighting with a Cauchy loss.
"""

from dataclasses import dataclass

import numba
import numpy as np

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.robust import CAUCHY_SCALE, component_variance

_MAX_ITERATIONS = 200
_TOLERANCE = 1e-7
_ROWS_PER_BLOCK = 6
_CHANNELS_PER_BLOCK = 16
"""Samples are summed so far before outliers are looked for: interference is flagged by then."""
_LEAST_AMPLITUDE = 1e-6
"""Minimum amplitude of a gain, relative to the median amplitude."""
_SYSTEMS_AT_ONCE = 8
"""Their matrices of 96 antennas fill the cache of a core."""
_TINY = 1e-30
"""Keeps what has no weight finite."""
_NOISE_SAMPLES = 2_000_000
"""About as many sums the noise is measured on, where there are more."""


@dataclass(frozen=True, eq=False)
class Gains:
    """Complex gains of antennas.

    Attributes
    ----------
    values : ndarray of complex128, shape (ninterval, nantenna, nchan, npol)
        One where flagged. nchan is 1 for gains that do not depend on frequency.
    flags : ndarray of bool, same shape
    snr : ndarray of float32, same shape
        Gain amplitude over its standard error.
    """

    values: np.ndarray
    flags: np.ndarray
    snr: np.ndarray

    def channels(self, chosen: np.ndarray) -> "Gains":
        """The same of some channels."""
        return Gains(self.values[:, :, chosen], self.flags[:, :, chosen], self.snr[:, :, chosen])


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _block_sums(
    data: np.ndarray,
    model: np.ndarray,
    weights: np.ndarray,
    flags: np.ndarray,
    left_out: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    channel_block: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Sums of w D conj(M), real and imaginary, and w |M|**2 over blocks of rows and channels.

    Parameters
    ----------
    data, weights, flags : ndarray, shape (nrow, nchan, npol)
    model, left_out : ndarray, shape (nrow, nchan)
    order : ndarray of int, shape (nrow,)
        Rows in the order of their blocks.
    starts : ndarray of int, shape (nblock + 1,)
        Where each block begins in it.
    channel_block : ndarray of int, shape (nchan,)
    sums : ndarray of float32, shape (nblock, 3, nchannelblock * npol)
        Is filled.
    """
    npol = data.shape[2]
    for block in range(starts.size - 1):
        re, im, power = sums[block, 0], sums[block, 1], sums[block, 2]
        re[:], im[:], power[:] = 0, 0, 0
        for row in order[starts[block] : starts[block + 1]]:
            for f in range(data.shape[1]):
                if left_out[row, f]:
                    continue
                at = channel_block[f] * npol
                m = model[row, f]
                mm = m.real * m.real + m.imag * m.imag
                for p in range(npol):
                    w = weights[row, f, p]
                    if w > 0 and not flags[row, f, p]:
                        x = w * data[row, f, p] * np.conj(m)
                        re[at + p] += x.real
                        im[at + p] += x.imag
                        power[at + p] += w * mm


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _pair_sums(
    sums: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    gain_re: np.ndarray,
    gain_im: np.ndarray,
    scale: float,
    pairs: np.ndarray,
    of_pair: np.ndarray,
) -> int:
    """Sums of each pair of antennas, with less weight for blocks that the gains do not explain.

    Real and imaginary parts apart, and one after the other in memory, let the compiler use vector
    instructions.

    Parameters
    ----------
    sums : ndarray of float32, shape (nblock, 3, nlane)
        A lane is a block of channels and a polarization.
    antenna1, antenna2 : ndarray of int, shape (nblock,)
        Blocks of a pair stand together.
    gain_re, gain_im : ndarray of float32, shape (nantenna, nlane)
    scale : float
        Variance per weight at which the weight halves; zero takes all blocks as they are.
    pairs : ndarray of float32, shape (at least npair, 3, nlane)
        Is filled.
    of_pair : ndarray of int, shape (at least npair,)
        Is filled with a block of each pair.

    Returns
    -------
    int
        Pairs.
    """
    nlane = sums.shape[2]
    model_re, model_im = np.empty(nlane, np.float32), np.empty(nlane, np.float32)
    scale32, tiny, one = np.float32(scale), np.float32(_TINY), np.float32(1)
    npair = -1
    for n in range(antenna1.size):
        i, j = antenna1[n], antenna2[n]
        if npair < 0 or i != antenna1[n - 1] or j != antenna2[n - 1]:
            npair += 1
            of_pair[npair] = n
            to_re, to_im, to_power = pairs[npair, 0], pairs[npair, 1], pairs[npair, 2]
            to_re[:], to_im[:], to_power[:] = 0, 0, 0
            for q in range(nlane):
                model_re[q] = gain_re[i, q] * gain_re[j, q] + gain_im[i, q] * gain_im[j, q]
                model_im[q] = gain_im[i, q] * gain_re[j, q] - gain_re[i, q] * gain_im[j, q]
        cross_re, cross_im, power = sums[n, 0], sums[n, 1], sums[n, 2]
        if scale32 > 0:
            for q in range(nlane):
                x, y, w = cross_re[q], cross_im[q], power[q]
                # Divided before it is squared: a square of raw units could be too large.
                per_sigma = one / np.sqrt(scale32 * w + tiny)
                r_re, r_im = (x - model_re[q] * w) * per_sigma, (y - model_im[q] * w) * per_sigma
                trust = one / (one + r_re * r_re + r_im * r_im)
                to_re[q] += trust * x
                to_im[q] += trust * y
                to_power[q] += trust * w
        else:
            for q in range(nlane):
                to_re[q] += cross_re[q]
                to_im[q] += cross_im[q]
                to_power[q] += power[q]
    return npair + 1


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _alternate(
    cross_re: np.ndarray,
    cross_im: np.ndarray,
    power: np.ndarray,
    min_baselines: int,
    phase_only: bool,
    warm: bool,
    gain_re: np.ndarray,
    gain_im: np.ndarray,
    flags: np.ndarray,
) -> None:
    """Solve one system of shape (nant, nant) into gains and flags (nant,).

    With `warm` the given gains are the start.
    """
    nant = power.shape[0]
    for i in range(nant):
        flags[i] = False
    # An antenna without enough partners cannot be solved, and its partners then lose one.
    changed = True
    while changed:
        changed = False
        for i in range(nant):
            if not flags[i]:
                partners = 0
                for j in range(nant):
                    if j != i and not flags[j] and power[i, j] > 0:
                        partners += 1
                if partners < min_baselines:
                    flags[i] = True
                    changed = True
    for i in range(nant):
        for j in range(nant):
            if flags[i] or flags[j]:
                # Takes the pair out of every sum below without a test in it.
                power[i, j] = cross_re[i, j] = cross_im[i, j] = 0
    if not warm:
        scale = weight = 0.0
        for i in range(nant):
            for j in range(nant):
                scale += np.hypot(cross_re[i, j], cross_im[i, j])
                weight += power[i, j]
        start = np.sqrt(scale / weight) if weight > 0 and not phase_only else 1.0
        for i in range(nant):
            gain_re[i], gain_im[i] = start, 0.0
    new_re, new_im = np.empty(nant), np.empty(nant)
    for iteration in range(_MAX_ITERATIONS):
        change = 0.0
        total = 0.0
        for i in range(nant):
            top_re = top_im = bottom = 0.0
            for j in range(nant):
                top_re += cross_re[i, j] * gain_re[j] - cross_im[i, j] * gain_im[j]
                top_im += cross_re[i, j] * gain_im[j] + cross_im[i, j] * gain_re[j]
                bottom += power[i, j] * (gain_re[j] * gain_re[j] + gain_im[j] * gain_im[j])
            if phase_only:
                bottom = np.hypot(top_re, top_im)
            new_re[i] = top_re / bottom if bottom > 0 else gain_re[i]
            new_im[i] = top_im / bottom if bottom > 0 else gain_im[i]
        for i in range(nant):
            if not flags[i]:
                re, im = new_re[i], new_im[i]
                if iteration % 2:
                    # Averaging every other step is what makes the iteration converge.
                    re, im = 0.5 * (re + gain_re[i]), 0.5 * (im + gain_im[i])
                    if phase_only:
                        length = np.hypot(re, im)
                        if length > 0:
                            re, im = re / length, im / length
                change += (re - gain_re[i]) ** 2 + (im - gain_im[i]) ** 2
                total += re * re + im * im
                gain_re[i], gain_im[i] = re, im
        if iteration % 2 and change <= _TOLERANCE**2 * total:
            break


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _solve_interval(
    pairs: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    system: np.ndarray,
    at_once: int,
    min_baselines: int,
    phase_only: bool,
    warm: bool,
    gains: np.ndarray,
    flags: np.ndarray,
    error: np.ndarray,
) -> None:
    """Solve all systems, one a bin of channels and polarization, of one interval.

    Parameters
    ----------
    pairs : ndarray of float32, shape (npair, 3, nlane)
        Of `_pair_sums`.
    antenna1, antenna2 : ndarray of int, shape (npair,)
    system : ndarray of int, shape (nlane,)
        That each lane adds to; those of a later bin stand behind.
    at_once : int
        Systems of whole bins.
    warm : bool
        The given gains are the start.
    gains, flags, error : ndarray, shape (nsystem, nantenna)
    """
    nsystem, nant = gains.shape
    # In single precision a few of these matrices at once stay in the cache.
    shape = (at_once, nant, nant)
    re, im = np.empty(shape, np.float32), np.empty(shape, np.float32)
    power = np.empty(shape, np.float32)
    gain_re, gain_im = np.empty(nant), np.empty(nant)
    last = 0
    for s0 in range(0, nsystem, at_once):
        s1 = min(nsystem, s0 + at_once)
        first = last
        while last < system.size and system[last] < s1:
            last += 1
        re[:], im[:], power[:] = 0, 0, 0
        for n in range(antenna1.size):
            i, j, sign = antenna1[n], antenna2[n], np.float32(1)
            if i > j:
                i, j, sign = j, i, np.float32(-1)
            pair_re, pair_im, pair_power = pairs[n, 0], pairs[n, 1], pairs[n, 2]
            for q in range(first, last):
                k = system[q] - s0
                re[k, i, j] += pair_re[q]
                im[k, i, j] += sign * pair_im[q]
                power[k, i, j] += pair_power[q]
        for s in range(s0, s1):
            v_re, v_im, w = re[s - s0], im[s - s0], power[s - s0]
            for i in range(nant):
                for j in range(i):
                    v_re[i, j], v_im[i, j], w[i, j] = v_re[j, i], -v_im[j, i], w[j, i]
                gain_re[i], gain_im[i] = gains[s, i].real, gains[s, i].imag
            _alternate(v_re, v_im, w, min_baselines, phase_only, warm, gain_re, gain_im, flags[s])
            for i in range(nant):
                gains[s, i] = complex(gain_re[i], gain_im[i])
                bottom = 0.0
                for j in range(nant):
                    bottom += w[i, j] * (gain_re[j] ** 2 + gain_im[j] ** 2)
                error[s, i] = np.sqrt(1 / bottom) if bottom > 0 else np.inf


def solve_gains(
    data: np.ndarray,
    model: np.ndarray,
    weights: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    interval: np.ndarray,
    channel_bin: np.ndarray,
    *,
    nantenna: int,
    flags: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
    min_baselines: int = 4,
    min_snr: float = 3.0,
    phase_only: bool = False,
    robust_rounds: int = 2,
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
    antenna1, antenna2 : ndarray of int, shape (nrow,)
        Below `nantenna`.
    interval : ndarray of int, shape (nrow,)
        Solution interval of each row.
    channel_bin : ndarray of int, shape (nchan,)
        Frequency bin of each channel, ascending.
    nantenna : int
    flags : ndarray of bool, shape (nrow, nchan, npol), optional
        Samples to leave out.
    left_out : ndarray of bool, shape (nrow, nchan), optional
        More of them, of all polarizations.
    min_baselines : int
        An antenna with fewer usable baselines is flagged.
    min_snr : float
        A solution of lower signal-to-noise ratio is flagged.
    phase_only : bool
        Keep amplitudes at one.
    robust_rounds : int
        Re-weightings after the first solution.

    Raises
    ------
    CalibrationError
        If nothing could be solved.
    """
    if data.shape[2] == 4:
        data, weights = data[:, :, ::3], weights[:, :, ::3]
        flags = None if flags is None else flags[:, :, ::3]
    ninterval, nbin, npol = int(interval.max()) + 1, int(channel_bin.max()) + 1, data.shape[2]
    order, starts = _row_blocks(interval, antenna1, antenna2)
    first_row = order[starts[:-1]]
    ends = np.searchsorted(interval[first_row], np.arange(ninterval + 1))
    antenna1, antenna2 = antenna1[first_row], antenna2[first_row]
    channel_block, first_channel = _channel_blocks(channel_bin)
    system = (channel_bin[first_channel][:, None] * npol + np.arange(npol)).ravel()
    sums = np.empty((first_row.size, 3, first_channel.size * npol), np.float32)
    nothing = np.broadcast_to(False, data.shape)
    _block_sums(
        data,
        model,
        weights,
        nothing if flags is None else flags,
        nothing[:, :, 0] if left_out is None else left_out,
        order,
        starts,
        channel_block,
        sums,
    )

    gains = np.ones((ninterval, nbin * npol, nantenna), np.complex128)
    bad = np.zeros(gains.shape, bool)
    error = np.full(gains.shape, np.inf)
    most_blocks = int(np.diff(ends).max())
    pairs = np.empty((most_blocks, *sums.shape[1:]), np.float32)
    of_pair = np.empty(most_blocks, np.int64)
    sampled = _some_blocks(sums)
    sigma2 = 0.0
    for _ in range(robust_rounds + 1):
        residuals = []
        for k in range(ninterval):
            its = slice(ends[k], ends[k + 1])
            a1, a2 = antenna1[its], antenna2[its]
            lanes = _in_lanes(gains[k], system)
            npair = _pair_sums(
                sums[its],
                a1,
                a2,
                lanes.real.copy(),
                lanes.imag.copy(),
                2 * CAUCHY_SCALE**2 * sigma2,
                pairs,
                of_pair,
            )
            at = of_pair[:npair]
            _solve_interval(
                pairs,
                a1[at],
                a2[at],
                system,
                _SYSTEMS_AT_ONCE // npol * npol,
                min_baselines,
                phase_only,
                sigma2 > 0,
                gains[k],
                bad[k],
                error[k],
            )
            some = sampled[its]
            lanes = _in_lanes(gains[k], system)
            residuals.append(_residuals(sums[its][some], lanes[a1[some]], lanes[a2[some]]))
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
    bad |= ~(snr >= min_snr) | (amplitude < _LEAST_AMPLITUDE * np.median(amplitude[~bad]))
    gains[bad] = 1.0

    def shaped(values: np.ndarray) -> np.ndarray:
        return values.reshape(ninterval, nbin, npol, nantenna).transpose(0, 3, 1, 2).copy()

    return Gains(
        values=shaped(gains),
        flags=shaped(bad),
        snr=shaped(np.where(np.isfinite(snr), snr, 0).astype(np.float32)),
    )


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


def refer_phases(
    gains: Gains, names: tuple[str, ...], preference: tuple[str, ...]
) -> tuple[Gains, str]:
    """Rotate phases so that a reference antenna's are zero.

    The first antenna of `preference` that is solved everywhere the most-solved antenna is
    becomes the reference; without one, the most-solved antenna itself.

    Parameters
    ----------
    gains : Gains
    names : tuple of str
        Antenna names in the order of the gains.
    preference : tuple of str

    Returns
    -------
    gains : Gains
    reference : str
        Name of the antenna used.
    """
    solved = (~gains.flags).sum(axis=(0, 2, 3))
    best = int(solved.max())
    chain = [names.index(name) for name in preference if name in names]
    index = next((i for i in chain if solved[i] == best), int(solved.argmax()))
    reference = gains.values[:, index : index + 1]
    phase = np.where(np.abs(reference) > 0, reference / np.abs(reference), 1.0)
    values = np.where(gains.flags, 1.0, gains.values * np.conj(phase))
    return Gains(values, gains.flags, gains.snr), names[index]
