"""Take out what changes during a tile: the place of the sky, and the gains of single antennas."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.drift import GainDrift, measure_drift
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.refraction import (
    SkyMotion,
    measure_motion,
    motion_gains,
    motion_phase_rad,
)
from dsa110_contimg.calibration.row_sums import sum_rows
from dsa110_contimg.visibilities.data import Visibilities


@dataclass(frozen=True, eq=False)
class Changes:
    """What changed during a tile, as far as an image would show it.

    Attributes
    ----------
    motion : SkyMotion or None
    drift : GainDrift or None
    sky_factor : ndarray, shape (ntime,), or None
        The sky over its model in each integration.
    """

    motion: SkyMotion | None = None
    drift: GainDrift | None = None
    sky_factor: np.ndarray | None = None

    @property
    def motion_rms_rad(self) -> float:
        """Motion of the sky; 0 where it was not significant."""
        return 0.0 if self.motion is None else self.motion.rms_rad


def measure_changes(
    vis: Visibilities, sky: np.ndarray, gains: Gains, left_out: np.ndarray, share: float
) -> Changes:
    """Measure what changes during a tile.

    Parameters
    ----------
    vis : Visibilities
        Of some channels.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    gains : Gains
        Shape (1, nantenna, nchan, npol), of the whole tile, still to be divided out.
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    share : float
        Of the tile's channels that `vis` has.
    """
    sums = sum_rows(vis, sky, gains, left_out)
    motion: SkyMotion | None = measure_motion(vis, sums)
    if motion is not None and motion.is_significant:
        sums = sums.turned_back(motion_phase_rad(vis, motion, sums.wave_number))
    else:
        motion = None
    drift = measure_drift(vis, sums, share)
    return Changes(motion, drift if drift.is_significant else None, drift.sky_factor)


def follow(sky: np.ndarray, vis: Visibilities, changes: Changes) -> None:
    """Make a model, shape (nrow, nchan), as bright in each integration as the sky is.

    What interference and noise are looked for in shall not hold what the beam or the strongest
    source differ by from their models. Amplitudes that antennas have in common must not be solved
    against such a model.
    """
    if changes.sky_factor is not None:
        sky *= changes.sky_factor[vis.time_index, None].astype(np.float32)


def take_out(vis: Visibilities, changes: Changes, in_place: bool = False) -> Visibilities:
    """The same data without what changed during the tile."""
    gains = []
    if changes.motion is not None:
        gains.append(motion_gains(vis, changes.motion))
    if changes.drift is not None:
        gains.append(changes.drift.gains)
    if not gains:
        return vis
    return apply_gains(vis, *gains, interval=vis.time_index, in_place=in_place)
