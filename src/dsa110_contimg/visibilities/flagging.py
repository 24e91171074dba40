"""Interference flags by AOFlagger (Offringa et al. 2012, A&A 539, A95), in process.

Each baseline is one image of time by frequency: the amplitude of both parallel hands together.
Give it data minus model where a model is known: AOFlagger's own generic strategy takes the
drift of a bright source through the fringes for interference.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from scipy import ndimage

from dsa110_contimg.robust import robust_rms
from dsa110_contimg.visibilities.baselines import by_baseline

_STRATEGIES = {name: Path(__file__).with_name(f"{name}.lua") for name in ("array", "residual")}
_PROFILE_BASELINES = 32
_PROFILE_CHANNELS = 31
_PROFILE_ROWS = 2000
_MEDIAN_STEP = 4
"""The median of every so many channels is as good."""
_LEVEL_CHANNELS = 48
"""Of those that came, enough for the median of a baseline."""
_MOST_LEVELS = 4.0
_TREND_INTEGRATIONS = 7
_TREND_CHANNELS = 63
_FIT_ROUNDS = 8
_FIT_SIGMA = 3.0
"""What stands higher above a channel's trend has little say in it."""


@cache
def _flagger() -> Any:
    import aoflagger

    return aoflagger.AOFlagger()


@cache
def _strategy(name: str) -> Any:
    if name in _STRATEGIES:
        path = str(_STRATEGIES[name])
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
    weights: np.ndarray | None = None,
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
    weights : ndarray, shape (nrow, nchan, npol), optional
        Inverse variances of the data as they are given: what noise to expect along the band.

    Returns
    -------
    ndarray of bool, shape (nrow, nchan)
        New flags only, not those given.
    """
    images, known, rows_of = _images(
        data, flags, antenna1, antenna2, time_index, model, inverse_gains
    )
    residual = model is not None
    everywhere = _array_wide(images, known)
    before = known | everywhere
    profile = _noise_profile(images, before)
    if weights is None:
        # Without what single channels have: lasting interference would hide in it.
        profile = ndimage.median_filter(profile, _PROFILE_CHANNELS, mode="mirror")
    else:
        expected = _expected_profile(weights, inverse_gains, antenna1, antenna2)
        # Lasting interference raises what is measured, never what the weights say.
        profile = np.where(expected > 0, np.minimum(profile, expected), profile)
    images *= (1 / profile)[:, None]
    strategy = "residual" if residual else "generic"
    for image, mask in zip(images, before, strict=True):
        if mask.all():
            continue
        if residual:
            some = slice(None, None, _MEDIAN_STEP)
            kept = image[some][~mask[some]]
            image -= np.median(kept if kept.size else image[~mask])
        mask |= _run(strategy, image, mask)
    return rows_of(before & ~known)


def flag_array_wide(
    data: np.ndarray,
    flags: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    time_index: np.ndarray,
) -> np.ndarray:
    """Flags of interference that all baselines have; needs neither model nor calibration.

    Parameters and result as of `flag_interference`.
    """
    images, known, rows_of = _images(data, flags, antenna1, antenna2, time_index, None, None)
    return rows_of(~known & _array_wide(images, known))


def _images(
    data: np.ndarray,
    flags: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    time_index: np.ndarray,
    model: np.ndarray | None,
    inverse_gains: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Amplitudes and flags of shape (nbaseline, nchan, ntime), and the way back to rows."""
    nchan, ntime = data.shape[1], int(time_index.max()) + 1
    order, edges = by_baseline(antenna1, antenna2, time_index)
    baseline = np.empty(order.size, np.int64)
    baseline[order] = np.repeat(np.arange(edges.size - 1), np.diff(edges))
    shape = (edges.size - 1, nchan, ntime)
    images = np.zeros(shape, np.float32)
    known = np.ones(shape, bool)
    _baseline_images(
        data,
        flags,
        np.zeros((0, 0), np.complex64) if model is None else model,
        np.zeros((0, 0, 0), np.complex64) if inverse_gains is None else inverse_gains,
        antenna1,
        antenna2,
        time_index,
        baseline,
        order,
        images,
        known,
    )

    def rows_of(found: np.ndarray) -> np.ndarray:
        rows = np.zeros((order.size, nchan), bool)
        _rows_of_images(found, time_index, baseline, order, rows)
        return rows

    return images, known, rows_of


def _run(strategy: str, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Flags of one image of shape (nchan, ntime)."""
    nchan, ntime = image.shape
    image_set = _flagger().make_image_set(ntime, nchan, 1)
    # What lies under the mask still counts in AOFlagger's sums.
    image_set.set_image_buffer(0, np.where(mask, np.float32(0), image))
    before = _flagger().make_flag_mask(ntime, nchan, False)
    before.set_buffer(mask)
    flags: np.ndarray = _strategy(strategy).run(image_set, before).get_buffer()
    return flags


def _array_wide(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Flags, shape (nchan, ntime), of what all baselines have together.

    The mean over baselines shows interference far below the noise of one (as Wilensky et al.
    2019, PASP 131, 114507 use it). Each baseline counts in units of its own median and up to a
    limit, so that no few of them decide.
    """
    mean = _mean_over_baselines(images, known, _baseline_levels(images, known))
    mask = mean == 0
    seen_channels, seen_times = ~mask.all(axis=1), ~mask.all(axis=0)
    seen = np.ix_(seen_channels, seen_times)
    image = np.full(mean.shape, np.nan, np.float32)
    image[~mask] = np.log(mean[~mask])
    excess = np.zeros(mean.shape, np.float32)
    if seen_channels.any():
        excess[seen] = np.nan_to_num(_without_trends(image[seen]))
    return mask | _run("array", excess, mask)


def _without_trends(image: np.ndarray) -> np.ndarray:
    """Take off what changes slowly with time or frequency; short pulses and steps stay.

    What the sky does in a channel depends on how far it stands above the noise there, so each
    channel has its own share of the common drift, and its own slope: at the edges of the band and
    in wide channels both differ.
    """
    ntime = image.shape[1]
    drift = np.nanmedian(image - np.nanmedian(image, axis=1, keepdims=True), axis=0)
    time = np.linspace(-1, 1, ntime)
    # A median alone lags where the drift is steep at the ends.
    cubic = _lower_fit(drift[None], np.stack([time**k for k in range(4)], axis=1))[0]
    slow = cubic + ndimage.median_filter(drift - cubic, _TREND_INTEGRATIONS, mode="mirror")
    design = np.stack([np.ones(ntime), time, slow - slow.mean()], axis=1)
    image = image - _lower_fit(image, design)
    pulses = np.nanmedian(image, axis=0)
    image = image - pulses
    smooth = ndimage.median_filter(np.nan_to_num(image), (_TREND_CHANNELS, 1), mode="mirror")
    return np.asarray(image - smooth + pulses - np.median(pulses))


def _lower_fit(image: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Fit of each channel that what lies far above it does not pull up.

    Not symmetric: a transmitter may be on for more than half of the time.

    Parameters
    ----------
    image : ndarray, shape (nchan, ntime)
        NaN where there are no data.
    design : ndarray, shape (ntime, nterm)
    """
    known = np.isfinite(image)
    values = np.where(known, image, 0.0).astype(float)
    level = np.nanquantile(image, 0.25, axis=1, keepdims=True)
    noise = max(robust_rms(np.diff(image, axis=1)) / np.sqrt(2), 1e-6)
    ridge = 1e-6 * np.eye(design.shape[1])
    fit = np.broadcast_to(level, image.shape)
    for _ in range(_FIT_ROUNDS):
        above = np.maximum((values - fit) / noise, 0.0)
        weight = known / (1 + (above / _FIT_SIGMA) ** 4)
        normal = np.einsum("ft,ti,tj->fij", weight, design, design) + ridge
        right = np.einsum("ft,ti->fi", weight * values, design)
        fit = np.einsum("fi,ti->ft", np.linalg.solve(normal, right[:, :, None])[:, :, 0], design)
    return fit


def _baseline_levels(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Median amplitude of each baseline, 0 if it has none."""
    came = np.flatnonzero(~known.all(axis=(0, 2)))
    some = (slice(None), came[:: max(1, came.size // _LEVEL_CHANNELS)])
    amplitudes = np.where(known[some], np.nan, images[some]).reshape(images.shape[0], -1)
    levels = np.zeros(images.shape[0], np.float32)
    there = np.isfinite(amplitudes).any(axis=1)
    levels[there] = np.nanmedian(amplitudes[there], axis=1)
    return levels


@numba.njit(cache=True, error_model="numpy")
def _mean_over_baselines(images: np.ndarray, known: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Mean amplitude over levels, shape (nchan, ntime); 0 where no baseline has data."""
    nbaseline, nchan, ntime = images.shape
    total = np.zeros((nchan, ntime), np.float64)
    count = np.zeros((nchan, ntime), np.int64)
    for b in range(nbaseline):
        if levels[b] <= 0:
            continue
        scale = 1 / levels[b]
        for f in range(nchan):
            for t in range(ntime):
                if not known[b, f, t]:
                    total[f, t] += min(images[b, f, t] * scale, _MOST_LEVELS)
                    count[f, t] += 1
    for f in range(nchan):
        for t in range(ntime):
            if count[f, t]:
                total[f, t] /= count[f, t]
    return total


@numba.njit(cache=True, error_model="numpy")
def _baseline_images(
    data: np.ndarray,
    flags: np.ndarray,
    model: np.ndarray,
    inverse_gains: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    time_index: np.ndarray,
    baseline: np.ndarray,
    order: np.ndarray,
    images: np.ndarray,
    known: np.ndarray,
) -> None:
    """Amplitudes ``sqrt((|XX|**2 + |YY|**2) / 2)``, of one hand where the other is flagged."""
    last = data.shape[2] - 1
    last_gain = inverse_gains.shape[2] - 1
    half = np.float32(0.5)
    for row in order:
        i, j, b, t = antenna1[row], antenna2[row], baseline[row], time_index[row]
        for f in range(data.shape[1]):
            no_x, no_y = flags[row, f, 0], flags[row, f, last]
            x, y = data[row, f, 0], data[row, f, last]
            if inverse_gains.size > 0:
                x *= inverse_gains[i, f, 0] * np.conj(inverse_gains[j, f, 0])
                y *= inverse_gains[i, f, last_gain] * np.conj(inverse_gains[j, f, last_gain])
            if model.size > 0:
                x -= model[row, f]
                y -= model[row, f]
            if no_x:
                x = y
            if no_y:
                y = x
            power = x.real * x.real + x.imag * x.imag + y.real * y.real + y.imag * y.imag
            known[b, f, t] = no_x and no_y
            images[b, f, t] = 0 if no_x and no_y else np.sqrt(half * power)


@numba.njit(cache=True)
def _rows_of_images(
    images: np.ndarray,
    time_index: np.ndarray,
    baseline: np.ndarray,
    order: np.ndarray,
    out: np.ndarray,
) -> None:
    for row in order:
        b, t = baseline[row], time_index[row]
        for f in range(out.shape[1]):
            out[row, f] = images[b, f, t]


def _noise_profile(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How the noise goes with frequency, shape (nchan,); its median is one."""
    step = max(1, images.shape[0] // _PROFILE_BASELINES)
    some = (
        np.where(known[::step], np.nan, images[::step]).swapaxes(0, 1).reshape(known.shape[1], -1)
    )
    return _relative_to_median(some)


def _expected_profile(
    weights: np.ndarray,
    inverse_gains: np.ndarray | None,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
) -> np.ndarray:
    """The same by the weights; zero in channels that have none."""
    rows = slice(None, None, max(1, weights.shape[0] // _PROFILE_ROWS))
    weight = weights[rows, :, 0].astype(float)
    with np.errstate(divide="ignore"):
        sigma = np.where(weight > 0, weight**-0.5, np.nan)
    if inverse_gains is not None:
        power = np.abs(inverse_gains[:, :, 0])
        sigma = sigma * power[antenna1[rows]] * power[antenna2[rows]]
    seen = np.isfinite(sigma).any(axis=0)
    return np.where(seen, _relative_to_median(sigma.T), 0.0).astype(np.float32)


def _relative_to_median(values: np.ndarray) -> np.ndarray:
    """Median of each row over that of all rows; one where a row has no number."""
    seen = np.isfinite(values).any(axis=1)
    profile = np.ones(values.shape[0], np.float32)
    if not seen.any():
        return profile
    middle = np.nanmedian(values[seen], axis=1)
    typical = np.median(middle[middle > 0]) if np.any(middle > 0) else 1.0
    profile[seen] = np.where(middle > 0, middle / typical, 1.0)
    return profile


def unflagged(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count samples that are unflagged in any polarization.

    Parameters
    ----------
    flags : ndarray of bool, shape (nrow, nchan, npol)
        With one, two or four polarizations.

    Returns
    -------
    per_row : ndarray of int, shape (nrow,)
    per_channel : ndarray of int, shape (nchan,)
    """
    # The flags of a sample's polarizations as one number.
    together = np.ascontiguousarray(flags).view(f"u{flags.shape[2]}")[:, :, 0]
    kept = together != np.array([True] * flags.shape[2]).view(together.dtype)
    return kept.sum(axis=1), kept.sum(axis=0)


def version() -> str:
    """Version of the AOFlagger library."""
    return str(_flagger().get_version_string())
