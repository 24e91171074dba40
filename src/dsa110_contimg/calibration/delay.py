"""Delays of antennas: the slope of their phases along the band."""

import numpy as np
from scipy import optimize

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.errors import CalibrationError

_PADDING = 8
MIN_CHANNELS = 4


def fit_delays(
    gains: Gains, frequencies_hz: np.ndarray, reference_hz: float
) -> tuple[np.ndarray, np.ndarray]:
    """Delays that make most of the power of per-channel gains coherent.

    Maximises ``|sum_f w_f g_f exp(-2 pi i (f - f_0) tau)|``, first on the grid of a padded
    Fourier transform, then by a bounded search about its peak.

    Parameters
    ----------
    gains : Gains
        Shape (ninterval, nantenna, nchan, npol), phases relative to a reference antenna.
    frequencies_hz : ndarray, shape (nchan,)
        Evenly spaced, apart from gaps.
    reference_hz : float
        Where the delay's phase is zero.

    Returns
    -------
    delays_s : ndarray, shape (ninterval, nantenna, 1, npol)
        Zero where flagged.
    flags : ndarray of bool, same shape

    Raises
    ------
    CalibrationError
        With fewer than four channels.
    """
    if frequencies_hz.size < MIN_CHANNELS:
        raise CalibrationError(
            f"{frequencies_hz.size} channels are too few for delays; {MIN_CHANNELS} are needed"
        )
    offset_hz = frequencies_hz - reference_hz
    width = float(np.min(np.diff(frequencies_hz)))
    bins = np.rint((frequencies_hz - frequencies_hz[0]) / width).astype(int)
    length = _PADDING * int(2 ** np.ceil(np.log2(bins[-1] + 1)))
    grid_s = np.fft.fftfreq(length, width)
    shape = (gains.values.shape[0], gains.values.shape[1], 1, gains.values.shape[3])
    delays, flags = np.zeros(shape), np.ones(shape, bool)
    for k, a, _, p in np.ndindex(shape):
        good = ~gains.flags[k, a, :, p]
        if np.count_nonzero(good) < MIN_CHANNELS:
            continue
        g = gains.values[k, a, good, p]
        weighted = gains.snr[k, a, good, p].astype(float) ** 2 * g / np.abs(g)
        spectrum = np.zeros(length, complex)
        spectrum[bins[good]] = weighted
        rough = grid_s[int(np.argmax(np.abs(np.fft.fft(spectrum))))]

        def incoherence(
            tau: float, weighted: np.ndarray = weighted, offset: np.ndarray = offset_hz[good]
        ) -> float:
            return -float(np.abs(np.sum(weighted * np.exp(-2j * np.pi * offset * tau))))

        step = grid_s[1]
        found = optimize.minimize_scalar(
            incoherence,
            bounds=(rough - step, rough + step),
            method="bounded",
            options={"xatol": 1e-4 * step},
        )
        delays[k, a, 0, p], flags[k, a, 0, p] = found.x, False
    return delays, flags


def delay_gains(
    delays_s: np.ndarray, flags: np.ndarray, frequencies_hz: np.ndarray, reference_hz: float
) -> Gains:
    """Gains ``exp(2 pi i (f - f_0) tau)`` of delays, shape (ninterval, nantenna, nchan, npol)."""
    phase = 2 * np.pi * delays_s * (frequencies_hz - reference_hz)[:, None]
    every = np.broadcast_to(flags, phase.shape).copy()
    return Gains(np.exp(1j * phase), every, np.where(every, 0, 1).astype(np.float32))
