"""Solve a tile's gains, channel by channel or in bins of channels."""

import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.solve import Baselines, solve_gains
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities.data import Visibilities


def some_channels(vis: Visibilities, count: int) -> np.ndarray:
    """Return the indices of at most `count` channels, evenly spread over those with data."""
    came = np.flatnonzero(~vis.flags[:: max(1, len(vis.flags) // 1000)].all(axis=(0, 2)))
    step = max(1, came.size // count)
    return came[step // 2 :: step][:count]


def _left_out(vis: Visibilities, rfi: np.ndarray, limits: SolveOptions) -> np.ndarray:
    """Samples (row, channel) that take no part in a solution, flagged ones apart."""
    length = np.hypot(*vis.uvw_m[:, :2].T) * vis.frequencies_hz.mean() / SPEED_OF_LIGHT_M_S
    short = length < limits.uv_min_lambda
    return rfi | short[:, None] if short.any() else rfi


def solve_bins(
    vis: Visibilities,
    sky: np.ndarray,
    rfi: np.ndarray,
    limits: SolveOptions,
    channel_bin: np.ndarray,
    phase_only: bool,
) -> Gains:
    """One solution a bin of channels and polarization for the whole tile.

    Parameters
    ----------
    vis : Visibilities
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    rfi : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    limits : SolveOptions
    channel_bin : ndarray of int, shape (nchan,)
        Ascending.
    phase_only : bool

    Returns
    -------
    Gains
        Shape (1, nantenna, nbin, npol); antennas that are not in the data are flagged.
    """
    present = vis.antennas_present()
    index = np.zeros(len(vis.array.names), np.int64)
    index[present] = np.arange(present.size)
    found = solve_gains(
        vis.data,
        sky,
        vis.weights,
        Baselines(index[vis.antenna1], index[vis.antenna2], present.size),
        np.zeros(vis.data.shape[0], np.int64),
        channel_bin,
        limits,
        flags=vis.flags,
        left_out=_left_out(vis, rfi, limits),
        phase_only=phase_only,
    )
    shape = (1, len(vis.array.names), *found.values.shape[2:])
    values = np.ones(shape, complex)
    flags = np.ones(shape, bool)
    snr = np.zeros(shape, np.float32)
    values[:, present], flags[:, present], snr[:, present] = found.values, found.flags, found.snr
    return Gains(values, flags, snr)
