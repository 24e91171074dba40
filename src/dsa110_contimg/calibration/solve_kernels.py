"""Compiled kernels of the gain solver; `solve` puts them together."""

import numba
import numpy as np

_MAX_ITERATIONS = 200
_TOLERANCE = 1e-7
_TINY = 1e-30
"""Keeps what has no weight finite."""


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def block_sums(
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
def pair_sums(
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
def solve_interval(
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
        Of `pair_sums`.
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
