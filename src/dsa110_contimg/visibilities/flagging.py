"""Interference flags by AOFlagger (Offringa et al. 2012, A&A 539, A95), in process.

Each baseline is one image of time by frequency in Stokes I. Give it data minus model where
a model is known: the generic strategy takes the drift of a bright source through the fringes
for interference.
"""

from functools import cache
from typing import Any

import numpy as np


@cache
def _strategy() -> tuple[Any, Any]:
    import aoflagger

    flagger = aoflagger.AOFlagger()
    path = flagger.find_strategy_file(aoflagger.TelescopeId.Generic)
    return flagger, flagger.load_strategy_file(str(path))


def flag_interference(
    data: np.ndarray,
    flags: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    time_index: np.ndarray,
) -> np.ndarray:
    """Flags of interference, baseline by baseline.

    Parameters
    ----------
    data : ndarray of complex64, shape (nrow, nchan, npol)
        Visibilities, best with the model subtracted.
    flags : ndarray of bool, same shape
        Known before; kept out of the statistics.
    antenna1, antenna2, time_index : ndarray of int, shape (nrow,)

    Returns
    -------
    ndarray of bool, shape (nrow, nchan)
        New flags only, not those given.
    """
    flagger, strategy = _strategy()
    both: np.ndarray = np.any(flags, axis=2)
    hands = (0, data.shape[2] - 1)
    # Stokes I, without a copy of all polarizations.
    intensity = 0.5 * (data[:, :, hands[0]] + data[:, :, hands[1]])
    found = np.zeros(both.shape, bool)
    order = np.lexsort((time_index, antenna2, antenna1))
    pair = antenna1[order].astype(np.int64) * (int(antenna2.max()) + 1) + antenna2[order]
    edges = np.flatnonzero(np.diff(pair)) + 1
    for rows in np.split(order, edges):
        known = both[rows]
        if known.all():
            continue
        ntime, nchan = known.shape
        image = np.where(known, 0, intensity[rows])
        image_set = flagger.make_image_set(ntime, nchan, 2)
        image_set.set_image_buffer(0, np.ascontiguousarray(image.real.T, dtype=np.float32))
        image_set.set_image_buffer(1, np.ascontiguousarray(image.imag.T, dtype=np.float32))
        mask = flagger.make_flag_mask(ntime, nchan, False)
        mask.set_buffer(np.ascontiguousarray(known.T))
        result = strategy.run(image_set, mask)
        found[rows] = result.get_buffer().T & ~known
    return found


def version() -> str:
    """Version of the AOFlagger library."""
    import aoflagger

    return str(aoflagger.AOFlagger().get_version_string())
