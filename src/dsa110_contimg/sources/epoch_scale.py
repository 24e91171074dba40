"""The flux scale of one epoch against the others, with its error."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.robust import MEDIAN_OVER_MEAN, robust_rms, weighted_median

_MINIMUM_SOURCES = 10
_MINIMUM_SNR = 10.0
"""Fainter sources add little, and their noise is no longer small against their flux density."""
_SIGNIFICANT = 3.0
_MINIMUM_SCATTER = 0.003
"""What single strong sources scatter by from epoch to epoch on an ideal instrument."""
_UNCOMPARED_ERROR = 0.01
"""Of an epoch that nothing can be compared with: calibration against a catalogue reaches this."""


@dataclass(frozen=True)
class EpochScale:
    """How the flux densities of an epoch compare with those of others.

    Attributes
    ----------
    scale : float
        Measured over usual flux density; one where the difference is not significant.
    error : float
        Of a single flux density on this scale, as a fraction: the error of the scale and the
        scatter of the sources beyond their noise.
    n_sources : int
        Sources that were compared; 0 where there were too few.
    """

    scale: float = 1.0
    error: float = _UNCOMPARED_ERROR
    n_sources: int = 0


def epoch_scale(
    flux_jy: np.ndarray, noise_jy: np.ndarray, usual_jy: np.ndarray, usual_error_jy: np.ndarray
) -> EpochScale:
    """Compare an epoch with the usual flux densities of its sources.

    The weighted median of the ratios, so that no single source, however strong, moves it far.
    The weights hold the scatter beyond the noise, which comes from the data themselves.

    Parameters
    ----------
    flux_jy, noise_jy : ndarray, shape (nsource,)
        As measured in the epoch.
    usual_jy, usual_error_jy : ndarray, shape (nsource,)
        Mean of the other epochs.
    """
    strong = np.minimum(flux_jy, usual_jy) > _MINIMUM_SNR * np.maximum(noise_jy, usual_error_jy)
    if np.count_nonzero(strong) < _MINIMUM_SOURCES:
        return EpochScale()
    flux, usual = flux_jy[strong], usual_jy[strong]
    ratio = flux / usual
    noise = ratio * np.hypot(noise_jy[strong] / flux, usual_error_jy[strong] / usual)
    scatter = _MINIMUM_SCATTER
    for _ in range(3):
        sigma = np.hypot(noise, scatter)
        scale = weighted_median(ratio, sigma**-2)
        # Pulls of unit width mean that the scatter is right.
        excess = robust_rms((ratio - scale) / sigma) ** 2 - 1
        scatter = float(
            np.sqrt(max(scatter**2 + excess * np.median(sigma**2), _MINIMUM_SCATTER**2))
        )
    sigma = np.hypot(noise, scatter)
    error = MEDIAN_OVER_MEAN / float(np.sqrt(np.sum(sigma**-2)))
    if abs(scale - 1) <= _SIGNIFICANT * error:
        scale = 1.0
    return EpochScale(scale, float(np.hypot(error, scatter)), ratio.size)
