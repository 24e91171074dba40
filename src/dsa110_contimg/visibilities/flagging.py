"""Interference flags by AOFlagger (Offringa et al. 2012, A&A 539, A95), in process.

Each baseline is one image of time by frequency: the amplitude of both parallel hands together.
Give it data minus model where a model is known: AOFlagger's own generic strategy takes the
drift of a bright source through the fringes for interference.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from scipy import ndimage

from dsa110_contimg.visibilities.baselines import by_baseline

_RESIDUAL_STRATEGY = Path(__file__).with_name("residual.lua")
_PROFILE_BASELINES = 32
_PROFILE_CHANNELS = 31
_MEDIAN_STEP = 4
"""The median of every so many channels is as good."""


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
    data: np.ndarray,
    flags: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    time_index: np.ndarray,
    model: np.ndarray | None = None,
    inverse_gains: np.ndarray | None = None,
) -> np.ndarray:
    """Flags of interference, baseline by baseline.

    Parameters
    ----------
    data : ndarray of complex64, shape (nrow, nchan, npol)
        The first and last polarization are the parallel hands.
    flags : ndarray of bool, shape (nrow, nchan, npol)
        Flags from before; kept out of the statistics.
    antenna1, antenna2, time_index : ndarray of int, shape (nrow,)
        At most one row a baseline and time.
    model : ndarray of complex64, shape (nrow, nchan), optional
        Total intensity, taken off: then noise is all that should be left.
    inverse_gains : ndarray of complex64, shape (nantenna, nchan, npol), optional
        What the data are multiplied with before.

    Returns
    -------
    ndarray of bool, shape (nrow, nchan)
        New flags only, not those given.
    """
    nchan, ntime = data.shape[1], int(time_index.max()) + 1
    order, edges = by_baseline(antenna1, antenna2, time_index)
    baseline = np.empty(order.size, np.int64)
    baseline[order] = np.repeat(np.arange(edges.size - 1), np.diff(edges))
    shape = (edges.size - 1, nchan, ntime)
    images = np.zeros(shape, np.float32)
    known = np.ones(shape, bool)
    _baseline_images(
        data, flags, np.zeros((0, 0), np.complex64) if model is None else model,
        np.zeros((0, 0, 0), np.complex64) if inverse_gains is None else inverse_gains,
        antenna1, antenna2, time_index, baseline, order, images, known,
    )  # fmt: skip
    residual = model is not None
    strategy = _strategy(residual)
    inverse_noise = (1 / _noise_profile(images, known))[:, None]
    new = np.zeros(shape, bool)
    for image, mask, found in zip(images, known, new, strict=True):
        if mask.all():
            continue
        image *= inverse_noise
        if residual:
            some = slice(None, None, _MEDIAN_STEP)
            kept = image[some][~mask[some]]
            image -= np.median(kept if kept.size else image[~mask])
        image_set = _flagger().make_image_set(ntime, nchan, 1)
        image_set.set_image_buffer(0, image)
        before = _flagger().make_flag_mask(ntime, nchan, False)
        before.set_buffer(mask)
        found[:] = strategy.run(image_set, before).get_buffer() & ~mask
    rows = np.zeros((order.size, nchan), bool)
    _rows_of_images(new, time_index, baseline, order, rows)
    return rows


@numba.njit(cache=True, error_model="numpy")
def _baseline_images(
    data: np.ndarray, flags: np.ndarray, model: np.ndarray, inverse_gains: np.ndarray,
    antenna1: np.ndarray, antenna2: np.ndarray, time_index: np.ndarray, baseline: np.ndarray,
    order: np.ndarray, images: np.ndarray, known: np.ndarray,
) -> None:  # fmt: skip
    """Amplitudes ``sqrt((|XX|**2 + |YY|**2) / 2)``, zero where flagged."""
    last = data.shape[2] - 1
    half = np.float32(0.5)
    for row in order:
        i, j, b, t = antenna1[row], antenna2[row], baseline[row], time_index[row]
        for f in range(data.shape[1]):
            flagged = False
            for p in range(data.shape[2]):
                flagged |= flags[row, f, p]
            x, y = data[row, f, 0], data[row, f, last]
            if inverse_gains.size > 0:
                x *= inverse_gains[i, f, 0] * np.conj(inverse_gains[j, f, 0])
                y *= inverse_gains[i, f, last] * np.conj(inverse_gains[j, f, last])
            if model.size > 0:
                x -= model[row, f]
                y -= model[row, f]
            power = x.real * x.real + x.imag * x.imag + y.real * y.real + y.imag * y.imag
            known[b, f, t] = flagged
            images[b, f, t] = 0 if flagged else np.sqrt(half * power)


@numba.njit(cache=True)
def _rows_of_images(
    images: np.ndarray, time_index: np.ndarray, baseline: np.ndarray, order: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    for row in order:
        b, t = baseline[row], time_index[row]
        for f in range(out.shape[1]):
            out[row, f] = images[b, f, t]


def _noise_profile(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How the noise goes with frequency, without what single channels have; mean about one."""
    step = max(1, images.shape[0] // _PROFILE_BASELINES)
    some = (
        np.where(known[::step], np.nan, images[::step]).swapaxes(0, 1).reshape(known.shape[1], -1)
    )
    seen = np.isfinite(some).any(axis=1)
    profile = np.ones(some.shape[0], np.float32)
    if not seen.any():
        return profile
    middle = np.nanmedian(some[seen], axis=1)
    smooth = ndimage.median_filter(middle, _PROFILE_CHANNELS, mode="mirror")
    profile[seen] = np.where(smooth > 0, smooth / np.median(middle[middle > 0]), 1.0)
    return profile


def unflagged(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count samples that are unflagged in any polarization.

    Parameters
    ----------
    flags : ndarray of bool, shape (nrow, nchan, npol)

    Returns
    -------
    per_row : ndarray of int, shape (nrow,)
    per_channel : ndarray of int, shape (nchan,)
    """
    per_row = np.zeros(flags.shape[0], np.int64)
    per_channel = np.zeros(flags.shape[1], np.int64)
    _count_unflagged(flags, per_row, per_channel)
    return per_row, per_channel


@numba.njit(cache=True)
def _count_unflagged(flags: np.ndarray, per_row: np.ndarray, per_channel: np.ndarray) -> None:
    for row in range(flags.shape[0]):
        for f in range(flags.shape[1]):
            kept = False
            for p in range(flags.shape[2]):
                kept |= not flags[row, f, p]
            per_row[row] += kept
            per_channel[f] += kept


def version() -> str:
    """Version of the AOFlagger library."""
    return str(_flagger().get_version_string())
