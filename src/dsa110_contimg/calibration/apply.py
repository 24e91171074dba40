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
        Of every antenna of `vis.array`; nchan is one or that of the data.
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
        weights = np.array(weights, np.float32)
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
    for row in range(data.shape[0]):
        k, i, j = interval[row], antenna1[row], antenna2[row]
        for f in range(data.shape[1]):
            c = f * step
            for p in range(data.shape[2]):
                data[row, f, p] *= inverse[k, i, c, p] * np.conj(inverse[k, j, c, p])
                weights[row, f, p] *= power[k, i, c, p] * power[k, j, c, p]
                flags[row, f, p] |= bad[k, i, c, p] | bad[k, j, c, p]
