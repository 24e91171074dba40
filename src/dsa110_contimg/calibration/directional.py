"""Solve the gains of antennas towards single strong sources.

A gain that serves the whole field describes no source exactly: beams differ from antenna to
antenna and from their model, and the ionosphere differs across the field. What a source of a
hundred Jy leaves behind, at a part in a thousand, hides everything else. The strongest
sources therefore get gains of their own, one after the other, each against what the others leave
(peeling; Noordam 2004, Proc. SPIE 5489, 817). They are only used to take those sources off the
data.
"""

import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.drift import solve_log_gains
from dsa110_contimg.calibration.row_sums import RowSums, sum_parallel_hands
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.visibilities.data import Visibilities

_ROUNDS = 2
_TIMES_AT_ONCE = 2
"""Integrations whose model is held in memory at once."""


def peel(
    vis: Visibilities,
    flags: np.ndarray,
    model: SkyModel,
    apparent_jy: np.ndarray,
    predicted: np.ndarray,
) -> np.ndarray:
    """Fit strong sources with gains of their own.

    Parameters
    ----------
    vis : Visibilities
        Calibrated.
    flags : ndarray of bool, shape (nrow, nchan, npol)
        Samples to leave out.
    model : SkyModel
        The sources, the strongest first.
    apparent_jy : ndarray, shape (ntime, nsource, nchan)
    predicted : ndarray of complex64, shape (nrow, nchan)
        Model of these sources and others that are taken off the data; is changed in place to
        what was fitted.

    Returns
    -------
    ndarray, shape (nsource,)
        Flux densities over those given, in the mean over the tile and all baselines.
    """
    ntime, nsource = apparent_jy.shape[:2]
    known = predict.antenna_gains(vis, model)
    log_gains = np.zeros((ntime, nsource, len(vis.array.names)), complex)
    if known is not None:
        log_gains += np.log(known)
    start = log_gains.copy()
    for _ in range(_ROUNDS):
        for source in range(nsource):
            own = model.select(np.array([source])), apparent_jy[:, source : source + 1]
            sums = _sums_of_source(vis, flags, *own, log_gains[:, source], predicted)
            found = solve_log_gains(vis, sums)
            step = found.basis @ (found.antennas[:, :, 0] + found.common)
            _replace(vis, *own, log_gains[:, source], step, predicted)
            log_gains[:, source] += step
    power = np.mean(apparent_jy, axis=2)
    ratio = np.exp(2 * np.median((log_gains - start).real, axis=2))
    return np.asarray(np.sum(power * ratio, axis=0) / power.sum(axis=0))


def _blocks(vis: Visibilities) -> list[tuple[slice, slice]]:
    """Integrations and their rows, some at a time."""
    ntime = vis.times_jd.size
    first = np.arange(0, ntime, _TIMES_AT_ONCE)
    rows = np.searchsorted(vis.time_index, np.append(first, ntime))
    return [
        (slice(t, t + _TIMES_AT_ONCE), slice(rows[k], rows[k + 1])) for k, t in enumerate(first)
    ]


def _sums_of_source(
    vis: Visibilities,
    flags: np.ndarray,
    source: SkyModel,
    apparent_jy: np.ndarray,
    log_gains: np.ndarray,
    predicted: np.ndarray,
) -> RowSums:
    """Sums of one source's model, and of it plus what all models together leave in the data."""
    cross = np.zeros((len(vis.data), 1), complex)
    power = np.zeros(cross.shape)
    squares, count = 0.0, 0
    for times, rows in _blocks(vis):
        model = predict.predict_apparent(
            vis,
            source.directions,
            apparent_jy[times],
            np.exp(log_gains[times, None]),
            times,
            rows,
            source.shapes,
        )
        cross[rows, 0], power[rows, 0], more, n = sum_parallel_hands(
            vis.data[rows], vis.weights[rows], flags[rows], predicted[rows], model
        )
        squares, count = squares + more, count + n
    none = np.zeros(len(vis.data))
    return RowSums(cross, power, none, squares / max(1, 2 * count), count)


def _replace(
    vis: Visibilities,
    source: SkyModel,
    apparent_jy: np.ndarray,
    log_gains: np.ndarray,
    step: np.ndarray,
    predicted: np.ndarray,
) -> None:
    """Change the gains of one source in a model."""
    for times, rows in _blocks(vis):
        for sign, values in ((-1, log_gains[times]), (1, log_gains[times] + step[times])):
            predicted[rows] += sign * predict.predict_apparent(
                vis,
                source.directions,
                apparent_jy[times],
                np.exp(values[:, None]),
                times,
                rows,
                source.shapes,
            )
