"""Divide gains out of visibilities; weights and flags follow."""

import functools
from dataclasses import replace

import numba
import numpy as np

from dsa110_contimg.calibration.solve import Gains
from dsa110_contimg.visibilities.measurement_set import Visibilities


def apply_gains(
    vis: Visibilities, *gains: Gains, interval: np.ndarray | None = None, in_place: bool = False
) -> Visibilities:
    """Calibrated data set.

    ``V_ij -> V_ij / (g_i conj(g_j))``, ``w_ij -> w_ij |g_i g_j|**2``, g being the product of all
    `gains`; a flagged gain flags its baselines.

    Parameters
    ----------
    vis : Visibilities
    gains : Gains
        Of every antenna of `vis.array` and both hands; nchan is one or that of the data. The
        cross hands of four polarizations take one gain of each.
    interval : ndarray of int, shape (nrow,), optional
        Solution interval of each row; without it the first.
    in_place : bool
        Overwrite the data, weights and flags of `vis`: a full-size tile does not fit in
        memory often.
    """
    values = functools.reduce(np.multiply, (g.values.astype(np.complex64) for g in gains))
    bad = functools.reduce(np.logical_or, (g.flags for g in gains))
    where = np.zeros(vis.data.shape[0], np.int64) if interval is None else interval
    data = vis.data if in_place else vis.data.copy()
    flags = vis.flags if in_place else vis.flags.copy()
    weights = vis.weights
    if not (in_place and weights.flags.writeable):
        # A broadcast view would hand its strange order of axes to the copy.
        weights = np.array(weights, np.float32, order="C")
    _divide(
        data, weights, flags, vis.antenna1, vis.antenna2, where, (1 / values).astype(np.complex64),
        (values.real**2 + values.imag**2).astype(np.float32), bad,
    )  # fmt: skip
    return replace(vis, data=data, weights=weights, flags=flags)


@numba.njit(cache=True, error_model="numpy")
def _divide(
    data: np.ndarray, weights: np.ndarray, flags: np.ndarray, antenna1: np.ndarray,
    antenna2: np.ndarray, interval: np.ndarray, inverse: np.ndarray, power: np.ndarray,
    bad: np.ndarray,
) -> None:  # fmt: skip
    step = 1 if inverse.shape[2] > 1 else 0
    npol = data.shape[2]
    first = np.arange(npol) // 2 if npol == 4 else np.arange(npol)
    second = np.arange(npol) % 2 if npol == 4 else np.arange(npol)
    for row in range(data.shape[0]):
        k, i, j = interval[row], antenna1[row], antenna2[row]
        for f in range(data.shape[1]):
            c = f * step
            for p in range(npol):
                q, r = first[p], second[p]
                data[row, f, p] *= inverse[k, i, c, q] * np.conj(inverse[k, j, c, r])
                weights[row, f, p] *= power[k, i, c, q] * power[k, j, c, r]
                flags[row, f, p] |= bad[k, i, c, q] | bad[k, j, c, r]


@numba.njit(cache=True)
def scale_weights(weights: np.ndarray, flags: np.ndarray, factor: np.float32) -> None:
    """Multiply weights in place, and make those of flagged samples zero."""
    for row in range(weights.shape[0]):
        for f in range(weights.shape[1]):
            for p in range(weights.shape[2]):
                weights[row, f, p] = 0 if flags[row, f, p] else weights[row, f, p] * factor
