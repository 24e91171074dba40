"""Sum each row of a tile over its channels, as comparisons of data with a model need it."""

from dataclasses import dataclass, replace

import numba
import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities.data import Visibilities


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums over the channels of each row: data D, model M, weights w.

    Attributes
    ----------
    cross : ndarray of complex128, shape (nrow, nhand)
        Sum of w D conj(M).
    power : ndarray, shape (nrow, nhand)
        Sum of w |M|**2.
    wave_number : ndarray, shape (nrow,)
        Mean of ``2 pi f / c`` with weights w |M|**2, rad per m.
    noise : float
        Mean of w |D - M|**2 / 2: the variance of a real component per unit of weight.
    n_samples : int
        Samples in all sums, each hand by itself.
    """

    cross: np.ndarray
    power: np.ndarray
    wave_number: np.ndarray
    noise: float
    n_samples: int

    def turned_back(self, phase_rad: np.ndarray) -> "RowSums":
        """The same with phases, shape (nrow,), taken off the data."""
        return replace(self, cross=self.cross * np.exp(-1j * phase_rad)[:, None])


def sum_rows(vis: Visibilities, sky: np.ndarray, gains: Gains, left_out: np.ndarray) -> RowSums:
    """Sum data and model over the channels of each row.

    Parameters
    ----------
    vis : Visibilities
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    gains : Gains
        Shape (1, nantenna, nchan, npol), to be divided out; baselines of flagged ones are left
        out.
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    """
    inverse = np.where(gains.flags[0], 0, 1 / gains.values[0]).astype(np.complex64)
    return RowSums(
        *_row_sums(
            vis.data,
            sky,
            vis.weights,
            vis.flags,
            left_out,
            inverse,
            vis.antenna1,
            vis.antenna2,
            vis.frequencies_hz,
            np.array(vis.parallel_hands),
        )
    )


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _row_sums(
    data: np.ndarray,
    sky: np.ndarray,
    weights: np.ndarray,
    flags: np.ndarray,
    left_out: np.ndarray,
    inverse: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    frequencies_hz: np.ndarray,
    hands: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int]:
    """Return the attributes of `RowSums`."""
    nrow = data.shape[0]
    cross = np.zeros((nrow, hands.size), np.complex128)
    power = np.zeros((nrow, hands.size))
    wave_number = np.zeros(nrow)
    squares, count = 0.0, 0
    for row in range(nrow):
        i, j = antenna1[row], antenna2[row]
        total = 0.0
        for f in range(data.shape[1]):
            if left_out[row, f]:
                continue
            m = sky[row, f]
            mm = m.real * m.real + m.imag * m.imag
            for h in range(hands.size):
                p = hands[h]
                w = weights[row, f, p]
                g = inverse[i, f, h] * np.conj(inverse[j, f, h])
                if flags[row, f, p] or not w > 0 or (g.real == 0 and g.imag == 0):
                    continue
                # The weight is that of the data before the division.
                w /= g.real * g.real + g.imag * g.imag
                d = data[row, f, p] * g
                cross[row, h] += w * d * np.conj(m)
                power[row, h] += w * mm
                wave_number[row] += w * mm * frequencies_hz[f]
                total += w * mm
                re, im = d.real - m.real, d.imag - m.imag
                squares += w * (re * re + im * im)
                count += 1
        if total > 0:
            wave_number[row] *= 2 * np.pi / SPEED_OF_LIGHT_M_S / total
    return cross, power, wave_number, squares / max(1, 2 * count), count


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def sum_parallel_hands(
    data: np.ndarray,
    weights: np.ndarray,
    flags: np.ndarray,
    predicted: np.ndarray,
    model: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Sum what one source is in data that hold others too.

    Parameters
    ----------
    data, weights, flags : ndarray, shape (nrow, nchan, npol)
        The first and last polarization are the parallel hands.
    predicted : ndarray of complex64, shape (nrow, nchan)
        Model of all sources.
    model : ndarray of complex64, shape (nrow, nchan)
        Model of the one.

    Returns
    -------
    cross, power : ndarray, shape (nrow,)
        As of `RowSums`, of both hands together, the data without the other sources.
    squares : float
        Sum of w |D - M|**2.
    count : int
        Samples.
    """
    nrow, nchan, npol = data.shape
    cross, power = np.zeros(nrow, np.complex128), np.zeros(nrow)
    squares, count = 0.0, 0
    step = max(1, npol - 1)
    for row in range(nrow):
        for f in range(nchan):
            m = model[row, f]
            mm = m.real * m.real + m.imag * m.imag
            for p in range(0, npol, step):
                w = weights[row, f, p]
                if flags[row, f, p] or not w > 0:
                    continue
                r = data[row, f, p] - predicted[row, f]
                cross[row] += w * ((r + m) * np.conj(m))
                power[row] += w * mm
                squares += w * (r.real * r.real + r.imag * r.imag)
                count += 1
    return cross, power, squares, count
