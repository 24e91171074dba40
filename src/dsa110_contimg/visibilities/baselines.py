"""Rows of a data set, baseline by baseline."""

import numpy as np


def by_baseline(
    antenna1: np.ndarray, antenna2: np.ndarray, time_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by baseline, then time.

    Parameters
    ----------
    antenna1, antenna2, time_index : ndarray of int, shape (nrow,)

    Returns
    -------
    order : ndarray of int, shape (nrow,)
    edges : ndarray of int, shape (nbaseline + 1,)
        Where each baseline begins in `order`.
    """
    order = np.lexsort((time_index, antenna2, antenna1))
    pair = antenna1[order].astype(np.int64) * (int(antenna2.max()) + 1) + antenna2[order]
    return order, np.concatenate([[0], np.flatnonzero(np.diff(pair)) + 1, [order.size]])
