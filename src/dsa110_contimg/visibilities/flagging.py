"""Interference flags by AOFlagger (Offringa et al. 2012, A&A 539, A95), in process.

Each baseline is one image of time by frequency: the amplitude of both parallel hands together.
Give it data minus model where a model is known: AOFlagger's own generic strategy takes the
drift of a bright source through the fringes for interference.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

_RESIDUAL_STRATEGY = Path(__file__).with_name("residual.lua")
_PROFILE_ROWS = 400
_PROFILE_CHANNELS = 31


@cache
def _flagger() -> Any:
    import aoflagger

    return aoflagger.AOFlagger()


@cache
def _strategy(residual: bool) -> Any:
    if residual:
        path = str(_RESIDUAL_STRATEGY)
    else:
        import aoflagger

        path = str(_flagger().find_strategy_file(aoflagger.TelescopeId.Generic))
    return _flagger().load_strategy_file(path)


def flag_interference(
    amplitude: np.ndarray,
    known: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    time_index: np.ndarray,
    *,
    residual: bool,
) -> np.ndarray:
    """Flags of interference, baseline by baseline.

    Parameters
    ----------
    amplitude : ndarray of float32, shape (nrow, nchan)
        ``sqrt((|XX|**2 + |YY|**2) / 2)``, finite also where flagged. Scaled in place.
    known : ndarray of bool, same shape
        Flags from before; kept out of the statistics.
    antenna1, antenna2, time_index : ndarray of int, shape (nrow,)
    residual : bool
        True for data minus model: then noise is all that should be left.

    Returns
    -------
    ndarray of bool, shape (nrow, nchan)
        New flags only, not those given.
    """
    strategy = _strategy(residual)
    amplitude /= _noise_profile(amplitude, known)
    found = np.zeros(known.shape, bool)
    order = np.lexsort((time_index, antenna2, antenna1))
    pair = antenna1[order].astype(np.int64) * (int(antenna2.max()) + 1) + antenna2[order]
    edges = np.flatnonzero(np.diff(pair)) + 1
    for rows in np.split(order, edges):
        mask = np.ascontiguousarray(known[rows].T)
        if mask.all():
            continue
        image = np.ascontiguousarray(amplitude[rows].T)
        if residual:
            image -= np.median(image[~mask])
        nchan, ntime = mask.shape
        image_set = _flagger().make_image_set(ntime, nchan, 1)
        image_set.set_image_buffer(0, image)
        before = _flagger().make_flag_mask(ntime, nchan, False)
        before.set_buffer(mask)
        found[rows] = strategy.run(image_set, before).get_buffer().T
    found &= ~known
    return found


def _noise_profile(amplitude: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How the noise goes with frequency, without what single channels have; mean about one."""
    step = max(1, amplitude.shape[0] // _PROFILE_ROWS)
    some = np.where(known[::step], np.nan, amplitude[::step])
    seen = np.isfinite(some).any(axis=0)
    profile = np.ones(some.shape[1], np.float32)
    if not seen.any():
        return profile
    middle = np.nanmedian(some[:, seen], axis=0)
    smooth = ndimage.median_filter(middle, _PROFILE_CHANNELS, mode="mirror")
    profile[seen] = np.where(smooth > 0, smooth / np.median(middle[middle > 0]), 1.0)
    return profile


def version() -> str:
    """Version of the AOFlagger library."""
    return str(_flagger().get_version_string())
