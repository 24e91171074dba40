"""Measure and remove the motion of the whole sky from integration to integration.

The ionosphere moves the sky by arcseconds within minutes. For an array of some kilometres it moves
all of the field alike, so two numbers an integration describe it, and all baselines measure them.
Sources that move smear: an image that takes no notice loses their peak flux density.

With data ``D = M exp(i k (u dl + v dm))`` of a model M, k being ``2 pi f / c``, to first order
``Im(D conj(M)) = |M|^2 k (u dl + v dm)``, which is linear in the shift. The longest baselines turn
by more than a radian, so the shift that was found is taken out and the rest is solved again.
"""

from dataclasses import dataclass

import numba
import numpy as np

from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.solve import Gains
from dsa110_contimg.sky import astrometry
from dsa110_contimg.telescope import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities import phasing
from dsa110_contimg.visibilities.data import Visibilities

_SIGNIFICANT = 3.0
_MIN_RMS_RAD = 0.2 * astrometry.ARCSEC_RAD
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


def measure_motion(
    vis: Visibilities, sky: np.ndarray, gains: Gains, left_out: np.ndarray
) -> SkyMotion:
    """Measure how the sky moves from integration to integration.

    Parameters
    ----------
    vis : Visibilities
        In units of the model.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    gains : Gains
        Shape (1, nantenna, nchan, npol), still to be divided out; baselines of flagged ones are
        left out.
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    """
    hands = np.array(vis.parallel_hands)
    inverse = np.where(gains.flags[0], 0, 1 / gains.values[0]).astype(np.complex64)
    cross, power, wave_number, noise = _row_sums(
        vis.data, sky, vis.weights, vis.flags, left_out, inverse, vis.antenna1, vis.antenna2,
        vis.frequencies_hz, hands,
    )  # fmt: skip
    ntime = vis.times_jd.size
    uv = vis.uvw_m[:, :2]
    used = power > 0
    shift = np.zeros((ntime, 2))
    sigma = np.sqrt(power * noise)
    for _ in range(_ROUNDS):
        turned = cross * np.exp(-1j * wave_number * np.sum(uv * shift[vis.time_index], axis=1))
        normal = np.zeros((ntime, 2, 2))
        right = np.zeros((ntime, 2))
        at = vis.time_index[used]
        for i in range(2):
            np.add.at(right[:, i], at, uv[used, i] * turned.imag[used])
            for j in range(2):
                np.add.at(normal[:, i, j], at, uv[used, i] * uv[used, j] * power[used])
        inverse_normal = np.linalg.pinv(normal, hermitian=True)
        step = np.einsum("tij,tj->ti", inverse_normal, right)
        shift = shift + step
        residual = turned.imag - power * np.sum(uv * step[vis.time_index], axis=1)
        used = (power > 0) & (np.abs(residual) < _CLIP_SIGMA * _scatter(residual, sigma) * sigma)
    variance = np.einsum("tii->ti", inverse_normal) * noise
    error = float(np.sqrt(np.median(variance[variance > 0]))) if np.any(variance > 0) else np.inf
    excess = max(1.0, _scatter(residual[used], sigma[used]))
    measured = variance[:, 0] > 0
    mean = shift[measured].mean(axis=0) if measured.any() else np.zeros(2)
    return SkyMotion(np.where(measured[:, None], shift - mean, 0.0), excess * error)


def bring_to_rest(vis: Visibilities, motion: SkyMotion, in_place: bool = False) -> Visibilities:
    """The same data with the motion of the sky taken out."""
    gains = _motion_gains(vis, motion)
    return apply_gains(vis, gains, interval=vis.time_index, in_place=in_place)


def _motion_gains(vis: Visibilities, motion: SkyMotion) -> Gains:
    """Gains of antennas, shape (ntime, nantenna, nchan, 2), that move the sky."""
    frame = astrometry.EarthFrame(vis.times_jd, vis.array.site)
    positions = vis.array.positions_itrf_m - np.median(vis.array.positions_itrf_m, axis=0)
    uv = np.einsum(
        "tkx,ax->tak", phasing.delay_axes(frame, *vis.phase_centre_rad)[:, :2], positions
    )
    path_m = np.einsum("tak,tk->ta", uv, motion.shift_rad)
    phase = 2 * np.pi / SPEED_OF_LIGHT_M_S * path_m[:, :, None, None] * (
        vis.frequencies_hz[None, None, :, None]
    )  # fmt: skip
    values = np.repeat(np.exp(1j * phase), len(vis.parallel_hands), axis=3).astype(np.complex64)
    return Gains(values, np.zeros(values.shape, bool), np.ones(values.shape, np.float32))


def _scatter(residual: np.ndarray, sigma: np.ndarray) -> float:
    """Robust width of residuals in units of their noise."""
    known = sigma > 0
    return float(1.4826 * np.median(np.abs(residual[known]) / sigma[known])) if known.any() else 1.0


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _row_sums(
    data: np.ndarray, sky: np.ndarray, weights: np.ndarray, flags: np.ndarray,
    left_out: np.ndarray, inverse: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray,
    frequencies_hz: np.ndarray, hands: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:  # fmt: skip
    """Sums of each row over channels and hands, and the mean variance per weight.

    Returns
    -------
    cross : ndarray of complex128, shape (nrow,)
        Sum of w k D conj(M).
    power : ndarray, shape (nrow,)
        Sum of w k^2 |M|^2.
    wave_number : ndarray, shape (nrow,)
        Mean k of the model's power.
    noise : float
        Mean of w |D - M|^2 / 2.
    """
    nrow = data.shape[0]
    cross = np.zeros(nrow, np.complex128)
    power, wave_number = np.zeros(nrow), np.zeros(nrow)
    squares, count = 0.0, 0
    unit = 2 * np.pi / SPEED_OF_LIGHT_M_S
    for row in range(nrow):
        i, j = antenna1[row], antenna2[row]
        real = imag = total = 0.0
        for f in range(data.shape[1]):
            if left_out[row, f]:
                continue
            m = sky[row, f]
            mm = m.real * m.real + m.imag * m.imag
            k = unit * frequencies_hz[f]
            for h in range(hands.size):
                p = hands[h]
                w = weights[row, f, p]
                g = inverse[i, f, h] * np.conj(inverse[j, f, h])
                if flags[row, f, p] or not w > 0 or (g.real == 0 and g.imag == 0):
                    continue
                d = data[row, f, p] * g
                real += w * k * (d.real * m.real + d.imag * m.imag)
                imag += w * k * (d.imag * m.real - d.real * m.imag)
                power[row] += w * k * k * mm
                total += w * k * mm
                re, im = d.real - m.real, d.imag - m.imag
                squares += w * (re * re + im * im)
                count += 1
        cross[row] = complex(real, imag)
        if total > 0:
            wave_number[row] = power[row] / total
    return cross, power, wave_number, squares / max(1, 2 * count)
