"""Interference and noise in data minus model."""

import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.robust import component_variance
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.flagging import flag_interference, unflagged


def alive(vis: Visibilities) -> tuple[np.ndarray, int, int]:
    """Antennas with an unflagged sample, how many samples could hold data, and how many do.

    Samples (row, channel) that could are those of such antennas in channels that came.
    """
    per_row, per_channel = unflagged(vis.flags)
    alive = np.union1d(vis.antenna1[per_row > 0], vis.antenna2[per_row > 0])
    rows = np.isin(vis.antenna1, alive) & np.isin(vis.antenna2, alive)
    could = int(np.count_nonzero(rows)) * int(np.count_nonzero(per_channel))
    return alive, max(1, could), int(per_row.sum())


def interference(
    vis: Visibilities, sky: np.ndarray | None, gains: Gains | None = None
) -> np.ndarray:
    """Flags of data minus model, the data divided by gains if they are given."""
    inverse = None if gains is None else (1 / gains.values[0]).astype(np.complex64)
    return flag_interference(
        vis.data,
        vis.flags,
        vis.antenna1,
        vis.antenna2,
        vis.time_index,
        sky,
        inverse,
        None if sky is None else vis.weights,
    )


def noise_scale(vis: Visibilities, sky: np.ndarray) -> float:
    """Factor that turns relative weights into inverse variances, from data minus model."""
    hands = vis.parallel_hands
    residual = vis.data[:, :, hands] - sky[:, :, None]
    used = ~vis.flags[:, :, hands]
    if not used.any():
        return 1.0
    squares = vis.weights[:, :, hands] * np.abs(residual) ** 2
    return component_variance(squares[used])
