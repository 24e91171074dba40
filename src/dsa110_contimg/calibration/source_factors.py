"""Flux densities of the parts of a model in calibrated data, by linear least squares.

All parts are fitted together, since they overlap in the visibilities. The normal equations are kept
for each part of the drift and each polarization: they add up, also over channels.
"""

from dataclasses import dataclass

import numba
import numpy as np

from dsa110_contimg.robust import component_variance
from dsa110_contimg.visibilities.data import Visibilities

_NOISE_ROWS = 20_000
_SAMPLES = 128
"""Samples that are added to the equations at once: those of 25 parts fit the cache."""
_CLIP = 20.0
"""Times the variance of a real component: noise exceeds it once in twenty thousand samples."""


@dataclass(frozen=True, eq=False)
class Equations:
    """Normal equations of the factors of the parts that make up the data.

    Attributes
    ----------
    normal : ndarray, shape (ndrift, nhand, npart, npart)
        In units of the noise; one for each part of the tile and parallel hand, or all hands.
    right : ndarray, shape (ndrift, nhand, npart)
    """

    normal: np.ndarray
    right: np.ndarray

    def __add__(self, other: "Equations") -> "Equations":
        return Equations(self.normal + other.normal, self.right + other.right)

    def solve(
        self, drift: int | None = None, hand: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return factors and their standard errors, of the whole or of one part of it.

        The parts may overlap on the sky: errors are those of the whole covariance. That of a part
        that is nowhere in the data is infinite.
        """
        drifts = slice(None) if drift is None else slice(drift, drift + 1)
        hands = slice(None) if hand is None else slice(hand, hand + 1)
        normal = self.normal[drifts, hands].sum(axis=(0, 1))
        right = self.right[drifts, hands].sum(axis=(0, 1))
        inverse = np.linalg.pinv(normal, hermitian=True)
        error = np.sqrt(np.clip(np.diag(inverse), 0, None))
        return inverse @ right, np.where(np.diag(normal) > 0, error, np.inf)


def set_up(
    vis: Visibilities, parts: np.ndarray, sky: np.ndarray, n_drift: int = 1, by_hand: bool = False
) -> Equations:
    """Set up linear least squares of real factors of the parts that make up the data.

    Samples far from the sky so far are interference and take no part.

    Parameters
    ----------
    vis : Visibilities
        Calibrated.
    parts : ndarray of complex64, shape (npart, nrow, nchan)
        Visibilities of total intensity.
    sky : ndarray of complex64, shape (nrow, nchan)
        Of all sources, as known so far.
    n_drift : int
        Parts of the tile that get equations of their own.
    by_hand : bool
        Each parallel hand gets equations of its own.
    """
    hands = vis.parallel_hands
    noise2 = np.array([_noise_per_weight(vis, sky, hand) for hand in hands])
    drift = drift_part(vis.times_jd.size, n_drift)[vis.time_index]
    count = len(parts)
    right = np.zeros((n_drift, len(hands) if by_hand else 1, count))
    normal = np.zeros((*right.shape[:2], count + count % 2, count + count % 2))
    for number, hand in enumerate(hands):
        at = number if by_hand else 0
        data, weights, flags = (array[:, :, hand] for array in (vis.data, vis.weights, vis.flags))
        _accumulate(
            parts, sky, data, weights, flags, noise2[number], drift, normal[:, at], right[:, at]
        )
    lower = np.tril(normal[:, :, :count, :count])
    return Equations(lower + np.tril(lower, -1).swapaxes(2, 3), right)


def drift_part(ntime: int, n_parts: int) -> np.ndarray:
    """Part of the tile that each integration belongs to."""
    return np.arange(ntime) * n_parts // ntime


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _accumulate(
    parts: np.ndarray,
    sky: np.ndarray,
    data: np.ndarray,
    weights: np.ndarray,
    flags: np.ndarray,
    noise2: float,
    drift: np.ndarray,
    normal: np.ndarray,
    right: np.ndarray,
) -> None:
    """Add the samples of one polarization to the lower half of the normal equations.

    Not as products of matrices: their last bits depend on how many threads BLAS has.

    Parameters
    ----------
    parts : ndarray of complex64, shape (npart, nrow, nchan)
    sky, data, weights, flags : ndarray, shape (nrow, nchan)
    noise2 : float
        Variance of a real component of data of unit weight.
    drift : ndarray of int, shape (nrow,)
        Equations that the row belongs to.
    normal, right : ndarray, shape (ndrift, neven, neven) and (ndrift, npart)
        `neven` is `npart` or one more.
    """
    count, nrow, nchan = parts.shape
    even = count + count % 2
    n_rows = max(1, _SAMPLES // nchan)
    # Real and imaginary parts one after the other, as real samples; parts in pairs.
    columns = np.zeros((even, 2 * n_rows * nchan), np.float32)
    weighted = np.zeros_like(columns)
    weight, values = np.zeros_like(columns[0]), np.zeros_like(columns[0])
    unit, zero = np.float32(1 / noise2), np.float32(0)
    begin = 0
    while begin < nrow:
        end, at = begin + 1, drift[begin]
        while end < nrow and end - begin < n_rows and drift[end] == at:
            end += 1
        size = 2 * (end - begin) * nchan
        i = 0
        for n in range(begin, end):
            for channel in range(nchan):
                value, w = data[n, channel], unit * weights[n, channel]
                off = value - sky[n, channel]
                good = not flags[n, channel] and w * (off.real**2 + off.imag**2) <= _CLIP
                weight[i] = weight[i + 1] = w if good else zero
                values[i] = value.real if good else zero
                values[i + 1] = value.imag if good else zero
                i += 2
        for k in range(count):
            i = 0
            for n in range(begin, end):
                for channel in range(nchan):
                    columns[k, i] = parts[k, n, channel].real
                    columns[k, i + 1] = parts[k, n, channel].imag
                    i += 2
            total = zero
            for i in range(size):
                weighted[k, i] = weight[i] * columns[k, i]
                total += weighted[k, i] * values[i]
            right[at, k] += total
        for k in range(0, even, 2):
            for m in range(0, k + 2, 2):
                # Four products at once: each sample is loaded half as often.
                s00 = s01 = s10 = s11 = zero
                for i in range(size):
                    s00 += weighted[k, i] * columns[m, i]
                    s01 += weighted[k, i] * columns[m + 1, i]
                    s10 += weighted[k + 1, i] * columns[m, i]
                    s11 += weighted[k + 1, i] * columns[m + 1, i]
                normal[at, k, m] += s00
                normal[at, k, m + 1] += s01
                normal[at, k + 1, m] += s10
                normal[at, k + 1, m + 1] += s11
        begin = end


def _noise_per_weight(vis: Visibilities, sky: np.ndarray, hand: int) -> float:
    """Robust variance of sqrt(weight) times the residual, a real component."""
    rows = slice(None, None, max(1, len(vis.data) // _NOISE_ROWS))
    squares = vis.weights[rows, :, hand] * np.abs(vis.data[rows, :, hand] - sky[rows]) ** 2
    good = squares[~vis.flags[rows, :, hand]]
    noise2 = component_variance(good) if good.size else 1.0
    return max(noise2, float(np.finfo(np.float32).tiny))
