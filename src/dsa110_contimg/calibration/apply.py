"""Divide gains out of visibilities; weights and flags follow."""

from dataclasses import replace

import numba
import numpy as np

from dsa110_contimg.calibration.solve import Gains
from dsa110_contimg.visibilities.measurement_set import Visibilities


def apply_gains(
    vis: Visibilities, gains: Gains, interval: np.ndarray | None = None
) -> Visibilities:
    """Calibrated copy of a data set.

    ``V_ij -> V_ij / (g_i conj(g_j))``, ``w_ij -> w_ij |g_i g_j|**2``; a flagged gain flags
    its baselines.

    Parameters
    ----------
    vis : Visibilities
    gains : Gains
        Of every antenna of `vis.array`; nchan is one or that of the data.
    interval : ndarray of int, shape (nrow,), optional
        Solution interval of each row; without it the first.
    """
    where = np.zeros(vis.data.shape[0], np.int64) if interval is None else interval
    data = np.empty_like(vis.data)
    weights = np.empty(vis.data.shape, np.float32)
    flags = vis.flags.copy()
    _divide(
        vis.data, vis.weights, vis.antenna1, vis.antenna2, where,
        gains.values.astype(np.complex64), gains.flags, data, weights, flags,
    )  # fmt: skip
    return replace(vis, data=data, weights=weights, flags=flags)


@numba.njit(cache=True, error_model="numpy")
def _divide(
    data: np.ndarray, weights: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray,
    interval: np.ndarray, gains: np.ndarray, gain_flags: np.ndarray, out: np.ndarray,
    out_weights: np.ndarray, out_flags: np.ndarray,
) -> None:  # fmt: skip
    per_channel = gains.shape[2] > 1
    for row in range(data.shape[0]):
        k, i, j = interval[row], antenna1[row], antenna2[row]
        for f in range(data.shape[1]):
            c = f if per_channel else 0
            for p in range(data.shape[2]):
                g = gains[k, i, c, p] * np.conj(gains[k, j, c, p])
                out[row, f, p] = data[row, f, p] / g
                out_weights[row, f, p] = weights[row, f, p] * (g.real * g.real + g.imag * g.imag)
                if gain_flags[k, i, c, p] or gain_flags[k, j, c, p]:
                    out_flags[row, f, p] = True
