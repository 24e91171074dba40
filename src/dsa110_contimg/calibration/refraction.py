"""Measure the motion of the whole sky from integration to integration.

The ionosphere moves the sky by arcseconds within minutes. For an array of some kilometres it moves
all of the field alike, so two numbers an integration describe it, and all baselines measure them.
Sources that move smear: an image that takes no notice loses their peak flux density.

With data ``D = M exp(i k (u dl + v dm))`` of a model M, k being ``2 pi f / c``, to first order
``Im(D conj(M)) = |M|^2 k (u dl + v dm)``, which is linear in the shift. The longest baselines turn
by more than a radian, so the shift that was found is taken out and the rest is solved again.
"""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.row_sums import RowSums
from dsa110_contimg.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.visibilities import phasing
from dsa110_contimg.visibilities.data import Visibilities

_SIGNIFICANT = 3.0
_MIN_RMS_RAD = 0.2 * ARCSEC_RAD
"""A hundredth of the array's beam: smaller motion takes nothing from a source."""
_CLIP_SIGMA = 5.0
_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class SkyMotion:
    """Motion of the sky during a tile.

    Attributes
    ----------
    shift_rad : ndarray, shape (ntime, 2)
        East and north, about the mean; zero where nothing could be measured.
    error_rad : float
        Median standard error of one shift.
    """

    shift_rad: np.ndarray
    error_rad: float

    @property
    def rms_rad(self) -> float:
        """Root mean square of the motion."""
        return float(np.sqrt(np.mean(np.sum(self.shift_rad**2, axis=1))))

    @property
    def is_significant(self) -> bool:
        """True where the motion is more than noise, and takes something from a source."""
        return self.rms_rad > max(_SIGNIFICANT * self.error_rad, _MIN_RMS_RAD)


def measure_motion(vis: Visibilities, sums: RowSums) -> SkyMotion:
    """Measure how the sky moves from integration to integration.

    Parameters
    ----------
    vis : Visibilities
    sums : RowSums
        Of its rows.
    """
    cross, power = sums.cross.sum(axis=1), sums.power.sum(axis=1)
    ntime = vis.times_jd.size
    phase_per_rad = vis.uvw_m[:, :2] * sums.wave_number[:, None]
    used = power > 0
    shift = np.zeros((ntime, 2))
    sigma = np.sqrt(power * sums.noise)
    for _ in range(_ROUNDS):
        turned = cross * np.exp(-1j * np.sum(phase_per_rad * shift[vis.time_index], axis=1))
        normal = np.zeros((ntime, 2, 2))
        right = np.zeros((ntime, 2))
        at = vis.time_index[used]
        slopes = phase_per_rad[used]
        for i in range(2):
            np.add.at(right[:, i], at, slopes[:, i] * turned.imag[used])
            for j in range(2):
                np.add.at(normal[:, i, j], at, slopes[:, i] * slopes[:, j] * power[used])
        inverse_normal = np.linalg.pinv(normal, hermitian=True)
        step = np.einsum("tij,tj->ti", inverse_normal, right)
        shift = shift + step
        residual = turned.imag - power * np.sum(phase_per_rad * step[vis.time_index], axis=1)
        used = (power > 0) & (np.abs(residual) < _CLIP_SIGMA * _scatter(residual, sigma) * sigma)
    variance = np.einsum("tii->ti", inverse_normal) * sums.noise
    error = float(np.sqrt(np.median(variance[variance > 0]))) if np.any(variance > 0) else np.inf
    excess = max(1.0, _scatter(residual[used], sigma[used]))
    measured = variance[:, 0] > 0
    mean = shift[measured].mean(axis=0) if measured.any() else np.zeros(2)
    return SkyMotion(np.where(measured[:, None], shift - mean, 0.0), excess * error)


def motion_phase_rad(vis: Visibilities, motion: SkyMotion, wave_number: np.ndarray) -> np.ndarray:
    """Phases that a motion gives to rows, at wave numbers (rad per m) of shape (nrow,)."""
    path_m = np.sum(vis.uvw_m[:, :2] * motion.shift_rad[vis.time_index], axis=1)
    return np.asarray(wave_number * path_m)


def motion_gains(vis: Visibilities, motion: SkyMotion) -> Gains:
    """Gains of antennas, shape (ntime, nantenna, nchan, 2), that move the sky."""
    frame = astrometry.EarthFrame(vis.times_jd, vis.array.site)
    positions = vis.array.positions_itrf_m - np.median(vis.array.positions_itrf_m, axis=0)
    uv = np.einsum(
        "tkx,ax->tak", phasing.delay_axes(frame, *vis.phase_centre_rad)[:, :2], positions
    )
    path_m = np.einsum("tak,tk->ta", uv, motion.shift_rad)
    phase = (
        2
        * np.pi
        / SPEED_OF_LIGHT_M_S
        * path_m[:, :, None, None]
        * (vis.frequencies_hz[None, None, :, None])
    )
    values = np.repeat(np.exp(1j * phase), len(vis.parallel_hands), axis=3).astype(np.complex64)
    return Gains(values, np.zeros(values.shape, bool), np.ones(values.shape, np.float32))


def _scatter(residual: np.ndarray, sigma: np.ndarray) -> float:
    """Robust width of residuals in units of their noise."""
    known = sigma > 0
    return float(1.4826 * np.median(np.abs(residual[known]) / sigma[known])) if known.any() else 1.0
