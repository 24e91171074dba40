"""Self-calibration: phases against the image's own sources, as long as the image gets better."""

from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.gains import refer_phases
from dsa110_contimg.calibration.intervals import solution_intervals
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.solve import Baselines, solve_gains
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.imaging import gridding
from dsa110_contimg.imaging.options import SelfCalibrationOptions, TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.tile import image_tile
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.visibilities.data import Visibilities

_BETTER = 1.005
"""Least factor in dynamic range that is worth another solution."""
_SOLUTION = SolveOptions()


@dataclass(frozen=True, eq=False)
class SelfCalibrated:
    """The best of all rounds.

    Attributes
    ----------
    vis : Visibilities
        With the phases of that round taken out.
    image : TileImage
    kept : int
        Rounds that made the image better.
    dynamic_range : tuple of float
        Peak over rms, before and after each round that was tried.
    """

    vis: Visibilities
    image: TileImage
    kept: int
    dynamic_range: tuple[float, ...]


def self_calibrate(
    vis: Visibilities,
    model: SkyModel | None,
    image_options: TileImageOptions,
    options: SelfCalibrationOptions,
) -> SelfCalibrated:
    """Solve phases against the image, image again, and stop when that no longer helps.

    Only phases are solved: amplitudes fitted to an image that lacks flux density would follow it.

    Parameters
    ----------
    vis : Visibilities
        Calibrated, in Jy.
    model : SkyModel or None
        As of `image_tile`.
    image_options : TileImageOptions
    options : SelfCalibrationOptions
    """
    best, best_vis, kept = image_tile(vis, model, image_options), vis, 0
    history = [_dynamic_range(best)]
    for _ in range(options.selfcal_rounds):
        try:
            trial_vis = _with_phases(best_vis, _model_of(best_vis, best), options)
        except CalibrationError:
            break
        trial = image_tile(trial_vis, model, image_options, like=best)
        history.append(_dynamic_range(trial))
        if history[-1] < _BETTER * _dynamic_range(best):
            break
        best, best_vis, kept = trial, trial_vis, kept + 1
    return SelfCalibrated(best_vis, best, kept, tuple(history))


def _dynamic_range(image: TileImage) -> float:
    return float(image.apparent.max()) / image.rms_jy


def _model_of(vis: Visibilities, image: TileImage) -> np.ndarray:
    """Visibilities of everything that was found, shape (nrow, nchan)."""
    sky = gridding.model_visibilities(vis.uvw_m, vis.frequencies_hz, image.model, image.cell_rad)
    if image.fitted is not None:
        sky = sky + predict.predict(vis, image.fitted)
    return np.asarray(sky, np.complex64)


def _with_phases(
    vis: Visibilities, sky: np.ndarray, options: SelfCalibrationOptions
) -> Visibilities:
    interval = solution_intervals(vis.times_s, options.selfcal_interval_s)[vis.time_index]
    gains = solve_gains(
        vis.data,
        sky,
        vis.weights,
        Baselines(vis.antenna1, vis.antenna2, len(vis.array.names)),
        interval,
        np.zeros(vis.frequencies_hz.size, np.int64),
        _SOLUTION,
        flags=vis.flags,
        phase_only=True,
    )
    gains, _ = refer_phases(gains, vis.array.names, _SOLUTION.reference_antennas)
    # What cannot be solved is left as it is: the data are calibrated already.
    gains = replace(gains, flags=np.zeros_like(gains.flags))
    return apply_gains(vis, gains, interval=interval)
