"""Antenna gains by alternating least squares (StefCal; Salvini and Wijnholds 2014, A&A 571, A97).

The model of a visibility is ``D_ij = g_i conj(g_j) M_ij``. Within a solution interval the
normal equations need only ``sum w D conj(M)`` and ``sum w |M|**2`` of each baseline, so the
data are read once an interval and iterations cost antennas squared.
Outliers lose their weight by iterative re-weighting with a Cauchy loss.
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


@numba.njit(cache=True, error_model="numpy")
def _accumulate(
    data: np.ndarray, model: np.ndarray, weights: np.ndarray, antenna1: np.ndarray,
    antenna2: np.ndarray, interval: np.ndarray, channel_bin: np.ndarray,
    cross: np.ndarray, power: np.ndarray,
) -> None:  # fmt: skip
    """Add the normal equations: cross[k, f, p, i, j] and power[k, f, p, i, j], both halves."""
    for row in range(data.shape[0]):
        i, j, k = antenna1[row], antenna2[row], interval[row]
        for f in range(data.shape[1]):
            b = channel_bin[f]
            m = model[row, f]
            mm = m.real * m.real + m.imag * m.imag
            for p in range(data.shape[2]):
                w = weights[row, f, p]
                if w > 0:
                    c = w * data[row, f, p] * np.conj(m)
                    cross[k, b, p, i, j] += c
                    cross[k, b, p, j, i] += np.conj(c)
                    power[k, b, p, i, j] += w * mm
                    power[k, b, p, j, i] += w * mm


@numba.njit(cache=True, error_model="numpy")
def _alternate(
    cross: np.ndarray, power: np.ndarray, min_baselines: int, phase_only: bool, gains: np.ndarray,
    flags: np.ndarray, error: np.ndarray,
) -> None:  # fmt: skip
    """Solve one system of shape (nant, nant) into gains, flags, error (nant,)."""
    nant = cross.shape[0]
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
    new = np.empty(nant, np.complex128)
    scale = 0.0
    weight = 0.0
    for i in range(nant):
        for j in range(nant):
            if power[i, j] > 0 and not flags[i] and not flags[j]:
                scale += abs(cross[i, j])
                weight += power[i, j]
    start = np.sqrt(scale / weight) if weight > 0 else 1.0
    for i in range(nant):
        gains[i] = start
    for iteration in range(_MAX_ITERATIONS):
        for i in range(nant):
            top = 0j
            bottom = 0.0
            if not flags[i]:
                for j in range(nant):
                    if not flags[j]:
                        g = gains[j]
                        top += cross[i, j] * g
                        bottom += power[i, j] * (g.real * g.real + g.imag * g.imag)
            new[i] = top / bottom if bottom > 0 else gains[i]
            if phase_only and abs(new[i]) > 0:
                new[i] /= abs(new[i])
        change = 0.0
        total = 0.0
        for i in range(nant):
            if not flags[i]:
                # Averaging every other step is what makes the iteration converge.
                value = 0.5 * (new[i] + gains[i]) if iteration % 2 else new[i]
                if phase_only and abs(value) > 0:
                    value /= abs(value)
                difference = value - gains[i]
                change += difference.real**2 + difference.imag**2
                total += value.real**2 + value.imag**2
                gains[i] = value
        if iteration % 2 and change <= _TOLERANCE**2 * total:
            break
    for i in range(nant):
        bottom = 0.0
        for j in range(nant):
            if not flags[j]:
                bottom += power[i, j] * (gains[j].real ** 2 + gains[j].imag ** 2)
        error[i] = np.sqrt(1 / bottom) if bottom > 0 else np.inf


@numba.njit(cache=True, error_model="numpy")
def _solve_all(
    cross: np.ndarray, power: np.ndarray, min_baselines: int, phase_only: bool, gains: np.ndarray,
    flags: np.ndarray, error: np.ndarray,
) -> None:  # fmt: skip
    for k in range(cross.shape[0]):
        for f in range(cross.shape[1]):
            for p in range(cross.shape[2]):
                _alternate(
                    cross[k, f, p], power[k, f, p], min_baselines, phase_only,
                    gains[k, f, p], flags[k, f, p], error[k, f, p],
                )  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def _cauchy_weights(
    data: np.ndarray, model: np.ndarray, base: np.ndarray, antenna1: np.ndarray,
    antenna2: np.ndarray, interval: np.ndarray, channel_bin: np.ndarray, gains: np.ndarray,
    sigma2: float, out: np.ndarray,
) -> None:  # fmt: skip
    for row in range(data.shape[0]):
        for f in range(data.shape[1]):
            for p in range(data.shape[2]):
                w = base[row, f, p]
                if w > 0:
                    at = gains[interval[row], channel_bin[f], p]
                    g = at[antenna1[row]] * np.conj(at[antenna2[row]])
                    r = data[row, f, p] - g * model[row, f]
                    r2 = w * (r.real * r.real + r.imag * r.imag) / sigma2
                    out[row, f, p] = w / (1 + r2 / (2 * _CAUCHY_SCALE**2))
                else:
                    out[row, f, p] = 0


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
    min_baselines: int = 4,
    min_snr: float = 3.0,
    phase_only: bool = False,
    robust_rounds: int = 2,
) -> Gains:
    """Solve gains of every antenna, interval, channel bin and polarization.

    Parameters
    ----------
    data : ndarray of complex, shape (nrow, nchan, npol)
    model : ndarray of complex, shape (nrow, nchan)
        Unpolarized: the same for each parallel-hand polarization.
    weights : ndarray, shape (nrow, nchan, npol)
        Relative inverse variances; zero where flagged.
    antenna1, antenna2 : ndarray of int, shape (nrow,)
        Below `nantenna`.
    interval : ndarray of int, shape (nrow,)
        Solution interval of each row.
    channel_bin : ndarray of int, shape (nchan,)
        Frequency bin of each channel.
    nantenna : int
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
    shape = (int(interval.max()) + 1, int(channel_bin.max()) + 1, data.shape[2], nantenna)
    gains = np.ones(shape, np.complex128)
    flags = np.zeros(shape, bool)
    error = np.full(shape, np.inf)
    current = np.ascontiguousarray(weights, np.float32)
    base = current
    sigma2 = 1.0
    for round_number in range(robust_rounds + 1):
        cross = np.zeros((*shape, nantenna), np.complex128)
        power = np.zeros((*shape, nantenna))
        _accumulate(data, model, current, antenna1, antenna2, interval, channel_bin, cross, power)
        _solve_all(cross, power, min_baselines, phase_only, gains, flags, error)
        if flags.all():
            raise CalibrationError(
                "no antenna has enough unflagged baselines to solve for gains; "
                "look at the flags and at the sky model"
            )
        sigma2 = _noise_per_weight(
            data, model, base, antenna1, antenna2, interval, channel_bin, gains
        )
        if round_number < robust_rounds:
            current = np.empty_like(base)
            _cauchy_weights(
                data, model, base, antenna1, antenna2, interval, channel_bin, gains, sigma2,
                current,
            )  # fmt: skip
    snr = np.abs(gains) / (error * np.sqrt(sigma2))
    flags |= ~(snr >= min_snr) | ~np.isfinite(gains)
    gains[flags] = 1.0
    axes = (0, 3, 1, 2)
    return Gains(
        values=gains.transpose(axes).copy(),
        flags=flags.transpose(axes).copy(),
        snr=np.where(np.isfinite(snr), snr, 0).astype(np.float32).transpose(axes).copy(),
    )


def _noise_per_weight(
    data: np.ndarray, model: np.ndarray, weights: np.ndarray, antenna1: np.ndarray,
    antenna2: np.ndarray, interval: np.ndarray, channel_bin: np.ndarray, gains: np.ndarray,
) -> float:  # fmt: skip
    """Robust variance of sqrt(weight) * residual, per real component.

    The median of a chi-square of two degrees of freedom is 2 ln 2.
    """
    step = max(1, data.shape[0] // 20000)
    rows = slice(None, None, step)
    at = gains[interval[rows]][:, channel_bin]
    index = np.arange(at.shape[0])
    first = at[index, :, :, antenna1[rows]]
    second = at[index, :, :, antenna2[rows]]
    residual = data[rows] - first * np.conj(second) * model[rows, :, None]
    normalised = weights[rows] * (residual.real**2 + residual.imag**2)
    used = normalised[weights[rows] > 0]
    return float(np.median(used) / (2 * np.log(2))) if used.size else 1.0


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
