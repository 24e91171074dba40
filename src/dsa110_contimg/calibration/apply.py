"""Divide gains out of visibilities; weights and flags follow."""

import functools
from dataclasses import replace

import numba
import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.visibilities.data import Visibilities

_NEIGHBOURS_HZ = 2.2e6
"""Maximum distance of the channels whose gains give a channel its weight."""


def apply_gains(
    vis: Visibilities,
    *gains: Gains,
    interval: np.ndarray | None = None,
    also_flagged: np.ndarray | None = None,
    weight_factor: float = 1.0,
    antenna_weights: np.ndarray | None = None,
    in_place: bool = False,
) -> Visibilities:
    """Calibrated data set.

    ``V_ij -> V_ij / (g_i conj(g_j))``, ``w_ij -> w_ij P_i P_j``, g being the product of all
    `gains` and P the mean of ``|g|**2`` over the neighbours of a channel; a flagged gain flags its
    baselines, and flagged samples have no weight.

    The channel itself is left out of P: a weight with the error of its own gain in it is larger
    where the divided data are smaller, and all flux densities come out low by ``4 / snr**2``, snr
    being the signal-to-noise ratio of a gain.

    Parameters
    ----------
    vis : Visibilities
    gains : Gains
        Of every antenna of `vis.array` and both hands; nchan is one or that of the data. The
        cross hands of four polarizations take one gain of each.
    interval : ndarray of int, shape (nrow,), optional
        Solution interval of each row; without it the first.
    also_flagged : ndarray of bool, shape (nrow, nchan), optional
        Samples to flag in the same pass.
    weight_factor : float
        Of all weights.
    antenna_weights : ndarray, shape (nantenna, 2), optional
        Factors of the weights of both hands of each antenna's baselines.
    in_place : bool
        Overwrite the data, weights and flags of `vis`: a full-size tile does not fit in
        memory often.
    """
    values = functools.reduce(np.multiply, (g.values.astype(np.complex64) for g in gains))
    bad = functools.reduce(np.logical_or, (g.flags for g in gains))
    nrow, nchan, npol = vis.data.shape
    data = vis.data if in_place else vis.data.copy()
    flags = vis.flags if in_place else vis.flags.copy()
    weights = vis.weights
    if not (in_place and weights.flags.writeable):
        # A broadcast view would hand its strange order of axes to the copy.
        weights = np.array(weights, np.float32, order="C")
    hands = (np.arange(npol) // 2, np.arange(npol) % 2) if npol == 4 else (np.arange(npol),) * 2
    inverse = (1 / values).astype(np.complex64)
    power = _neighbours_power(values, bad, vis.frequencies_hz).astype(np.float32)
    if antenna_weights is not None:
        power = power * antenna_weights[None, :, None, : power.shape[3]].astype(np.float32)
    _divide(
        data.reshape(nrow, -1),
        weights.reshape(nrow, -1),
        flags.reshape(nrow, -1),
        npol,
        vis.antenna1,
        vis.antenna2,
        np.zeros(nrow, np.int64) if interval is None else interval,
        np.zeros((0, 0), bool) if also_flagged is None else also_flagged,
        np.float32(weight_factor),
        *(_per_sample(array, hand, nchan) for array in (inverse, power, bad) for hand in hands),
    )
    return replace(vis, data=data, weights=weights, flags=flags)


def _neighbours_power(
    values: np.ndarray, flags: np.ndarray, frequencies_hz: np.ndarray
) -> np.ndarray:
    """Mean of ``|g|**2`` over the channels next to each, the channel itself left out.

    Parameters
    ----------
    values : ndarray of complex, shape (ninterval, nantenna, nchan, npol)
    flags : ndarray of bool, same shape
    frequencies_hz : ndarray, shape (nchan,)
        Ascending.

    Returns
    -------
    ndarray, same shape
        Where no neighbour within 2.2 MHz has a solution, ``|g|**2`` of the channel.
    """
    own = values.real**2 + values.imag**2
    if own.shape[2] == 1:
        return own
    first = np.searchsorted(frequencies_hz, frequencies_hz - _NEIGHBOURS_HZ)
    last = np.searchsorted(frequencies_hz, frequencies_hz + _NEIGHBOURS_HZ, side="right")
    sums, counts = (
        _window_sums(array, first, last) - array
        for array in (np.where(flags, 0.0, own), np.where(flags, 0.0, 1.0))
    )
    return np.where(counts > 0.5, sums / np.maximum(counts, 1.0), own)


def _window_sums(array: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Sum over channels from `first` up to, not including, `last`."""
    running = np.cumsum(array, axis=2, dtype=float)
    running = np.concatenate([np.zeros_like(running[:, :, :1]), running], axis=2)
    return np.asarray(running[:, :, last] - running[:, :, first])


def _per_sample(array: np.ndarray, hand: np.ndarray, nchan: int) -> np.ndarray:
    """Values for each channel and polarization side by side, shape (ninterval, nantenna, n)."""
    chosen = np.broadcast_to(array[..., hand], (*array.shape[:2], nchan, hand.size))
    return np.ascontiguousarray(chosen).reshape(*array.shape[:2], -1)


@numba.njit(cache=True)
def _divide(
    data: np.ndarray,
    weights: np.ndarray,
    flags: np.ndarray,
    npol: int,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    interval: np.ndarray,
    also_flagged: np.ndarray,
    factor: np.float32,
    inverse1: np.ndarray,
    inverse2: np.ndarray,
    power1: np.ndarray,
    power2: np.ndarray,
    bad1: np.ndarray,
    bad2: np.ndarray,
) -> None:
    """Channels and polarizations are one axis; see `apply_gains`."""
    n = data.shape[1]
    for row in range(data.shape[0]):
        k, i, j = interval[row], antenna1[row], antenna2[row]
        a, b = inverse1[k, i], inverse2[k, j]
        for s in range(n):
            data[row, s] *= a[s] * np.conj(b[s])
        x, y = bad1[k, i], bad2[k, j]
        for s in range(n):
            flags[row, s] |= x[s] | y[s]
        if also_flagged.size > 0:
            for f in range(n // npol):
                if also_flagged[row, f]:
                    flags[row, f * npol : (f + 1) * npol] = True
        p, q = power1[k, i], power2[k, j]
        for s in range(n):
            weight = weights[row, s] * p[s] * q[s] * factor
            weights[row, s] = np.float32(0) if flags[row, s] else weight
