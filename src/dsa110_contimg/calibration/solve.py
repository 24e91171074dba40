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

_CAUCHY_SCALE = 2.385
"""Residual, in sigma, at which the weight halves: 95 % efficient for Gaussian noise
(Holland and Welsch 1977, Communications in Statistics A6, 813)."""
_MAX_ITERATIONS = 200
_TOLERANCE = 1e-7
_ROWS_PER_BLOCK = 6
_CHANNELS_PER_BLOCK = 16
"""Samples are summed so far before outliers are looked for: interference is flagged by then."""
_BINS_AT_ONCE = 8


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


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _products(
    data: np.ndarray, model: np.ndarray, weights: np.ndarray, flags: np.ndarray,
    block: np.ndarray, channel_block: np.ndarray, cross: np.ndarray, power: np.ndarray,
) -> None:  # fmt: skip
    """Sums of w D conj(M) and w |M|**2 over each block of rows and channels."""
    for row in range(data.shape[0]):
        b = block[row]
        for f in range(data.shape[1]):
            c = channel_block[f]
            m = model[row, f]
            mm = m.real * m.real + m.imag * m.imag
            for p in range(data.shape[2]):
                w = weights[row, f, p]
                if w > 0 and not flags[row, f, p]:
                    cross[b, c, p] += w * data[row, f, p] * np.conj(m)
                    power[b, c, p] += w * mm


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _alternate(
    cross_re: np.ndarray, cross_im: np.ndarray, power: np.ndarray, min_baselines: int,
    phase_only: bool, warm: bool, gain_re: np.ndarray, gain_im: np.ndarray, flags: np.ndarray,
) -> None:  # fmt: skip
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
    scale = 0.0
    weight = 0.0
    for i in range(nant):
        for j in range(nant):
            if flags[i] or flags[j]:
                # Takes the pair out of every sum below without a test in it.
                power[i, j] = cross_re[i, j] = cross_im[i, j] = 0
            scale += np.hypot(cross_re[i, j], cross_im[i, j])
            weight += power[i, j]
    if not warm:
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
    cross: np.ndarray, power: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray,
    channel_bin: np.ndarray, first_block: np.ndarray, sigma2: float, min_baselines: int,
    phase_only: bool, gains: np.ndarray, flags: np.ndarray, error: np.ndarray,
) -> None:  # fmt: skip
    """Solve all channel bins of one interval.

    With `sigma2` the given gains say which blocks are outliers, and are the start.

    Parameters
    ----------
    cross, power : ndarray, shape (nblock, nchannelblock, npol)
        Of the interval's blocks of rows.
    antenna1, antenna2 : ndarray of int, shape (nblock,)
    channel_bin : ndarray of int, shape (nchannelblock,)
    first_block : ndarray of int, shape (nbin + 1,)
        Where each bin's channel blocks begin.
    sigma2 : float
        Noise per weight; zero for a first solution.
    gains, flags, error : ndarray, shape (nbin, npol, nantenna)
    """
    nbin, npol, nant = gains.shape
    robust = sigma2 > 0
    for b0 in range(0, nbin, _BINS_AT_ONCE):
        b1 = min(nbin, b0 + _BINS_AT_ONCE)
        re = np.zeros((b1 - b0, npol, nant, nant))
        im = np.zeros((b1 - b0, npol, nant, nant))
        pw = np.zeros((b1 - b0, npol, nant, nant))
        for n in range(cross.shape[0]):
            i, j = antenna1[n], antenna2[n]
            for c in range(first_block[b0], first_block[b1]):
                b = channel_bin[c]
                for p in range(npol):
                    x, y = cross[n, c, p], power[n, c, p]
                    if y > 0:
                        w = 1.0
                        if robust:
                            r = x - gains[b, p, i] * np.conj(gains[b, p, j]) * y
                            r2 = (r.real * r.real + r.imag * r.imag) / (y * sigma2)
                            w = 1 / (1 + r2 / (2 * _CAUCHY_SCALE**2))
                        re[b - b0, p, i, j] += w * x.real
                        im[b - b0, p, i, j] += w * x.imag
                        pw[b - b0, p, i, j] += w * y
        gain_re, gain_im = np.empty(nant), np.empty(nant)
        for b in range(b0, b1):
            for p in range(npol):
                a, c, d = re[b - b0, p], im[b - b0, p], pw[b - b0, p]
                for i in range(nant):
                    for j in range(i):
                        # Both halves of each pair, whichever way round its rows are.
                        a[i, j] += a[j, i]
                        c[i, j] -= c[j, i]
                        d[i, j] += d[j, i]
                        a[j, i], c[j, i], d[j, i] = a[i, j], -c[i, j], d[i, j]
                for i in range(nant):
                    gain_re[i], gain_im[i] = gains[b, p, i].real, gains[b, p, i].imag
                _alternate(
                    a, c, d, min_baselines, phase_only, robust, gain_re, gain_im, flags[b, p]
                )
                for i in range(nant):
                    gains[b, p, i] = complex(gain_re[i], gain_im[i])
                    bottom = 0.0
                    for j in range(nant):
                        bottom += d[i, j] * (gain_re[j] ** 2 + gain_im[j] ** 2)
                    error[b, p, i] = np.sqrt(1 / bottom) if bottom > 0 else np.inf


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
    block, first_row = _row_blocks(interval, antenna1, antenna2)
    channel_block, first_channel = _channel_blocks(channel_bin)
    cross = np.zeros((first_row.size, first_channel.size, npol), np.complex64)
    power = np.zeros(cross.shape, np.float32)
    left_out = np.broadcast_to(False, data.shape) if flags is None else flags
    _products(data, model, weights, left_out, block, channel_block, cross, power)
    ends = np.searchsorted(interval[first_row], np.arange(ninterval + 1))
    bins = channel_bin[first_channel]
    first_block = np.searchsorted(bins, np.arange(nbin + 1))

    shape = (ninterval, nbin, npol, nantenna)
    gains = np.ones(shape, np.complex128)
    bad = np.zeros(shape, bool)
    error = np.full(shape, np.inf)
    sigma2 = 0.0
    for _ in range(robust_rounds + 1):
        for k in range(ninterval):
            rows = slice(ends[k], ends[k + 1])
            _solve_interval(
                cross[rows], power[rows], antenna1[first_row[rows]], antenna2[first_row[rows]],
                bins, first_block, sigma2, min_baselines, phase_only, gains[k], bad[k], error[k],
            )  # fmt: skip
        if bad.all():
            raise CalibrationError(
                "no antenna has enough unflagged baselines to solve for gains; "
                "look at the flags and at the sky model"
            )
        sigma2 = _noise_per_weight(
            cross, power, interval[first_row], antenna1[first_row], antenna2[first_row], bins, gains
        )
    snr = np.abs(gains) / (error * np.sqrt(sigma2))
    bad |= ~(snr >= min_snr) | ~np.isfinite(gains)
    gains[bad] = 1.0
    axes = (0, 3, 1, 2)
    return Gains(
        values=gains.transpose(axes).copy(),
        flags=bad.transpose(axes).copy(),
        snr=np.where(np.isfinite(snr), snr, 0).astype(np.float32).transpose(axes).copy(),
    )


def _row_blocks(
    interval: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Block of each row, and one row of each block: a few rows of one baseline and interval.

    Blocks are in order of interval.
    """
    order = np.lexsort((antenna2, antenna1, interval))
    keys = np.stack([interval[order], antenna1[order], antenna2[order]])
    new = np.any(np.diff(keys, axis=1, prepend=-1) != 0, axis=0)
    group = np.cumsum(new) - 1
    within = np.arange(order.size) - np.flatnonzero(new)[group]
    new |= within % _ROWS_PER_BLOCK == 0
    block = np.empty(order.size, np.int64)
    block[order] = np.cumsum(new) - 1
    return block, order[new]


def _channel_blocks(channel_bin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Block of each channel, and the first channel of each block, within ascending bins."""
    new = np.diff(channel_bin, prepend=-1) != 0
    within = np.arange(channel_bin.size) - np.flatnonzero(new)[np.cumsum(new) - 1]
    new |= within % _CHANNELS_PER_BLOCK == 0
    return np.cumsum(new) - 1, np.flatnonzero(new)


def _noise_per_weight(
    cross: np.ndarray, power: np.ndarray, interval: np.ndarray, antenna1: np.ndarray,
    antenna2: np.ndarray, channel_bin: np.ndarray, gains: np.ndarray,
) -> float:  # fmt: skip
    """Robust variance of sqrt(weight) * residual, per real component.

    The residual of a block is ``(cross - g power) / sqrt(power)``; the median of a chi-square
    of two degrees of freedom is 2 ln 2.
    """
    step = max(1, cross.size // 2_000_000)
    rows = slice(None, None, step)
    at = gains[:, channel_bin].transpose(0, 3, 1, 2)
    g = at[interval[rows], antenna1[rows]] * np.conj(at[interval[rows], antenna2[rows]])
    used = power[rows] > 0
    residual = (cross[rows] - g * power[rows])[used]
    normalised = (residual.real**2 + residual.imag**2) / power[rows][used]
    return float(np.median(normalised) / (2 * np.log(2))) if normalised.size else 1.0


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


def split_bandpass(raw: Gains) -> tuple[Gains, Gains]:
    """Bandpass of rms amplitude one and mean phase zero, and the gain that was taken out."""
    used = ~raw.flags
    count = np.maximum(used.sum(axis=2, keepdims=True), 1)
    power = np.sum(np.where(used, np.abs(raw.values) ** 2, 0), axis=2, keepdims=True) / count
    total = np.sum(np.where(used, raw.values, 0), axis=2, keepdims=True)
    phase = np.where(np.abs(total) > 0, total / np.maximum(np.abs(total), 1e-30), 1.0)
    none: np.ndarray = ~np.any(used, axis=2, keepdims=True)
    gain = np.where(none, 1.0, np.sqrt(power) * phase)
    snr = np.sqrt(np.sum(np.where(used, raw.snr, 0) ** 2, axis=2, keepdims=True))
    bandpass = np.where(used, raw.values / gain, 1.0)
    return Gains(bandpass, raw.flags, raw.snr), Gains(gain, none, snr.astype(np.float32))
