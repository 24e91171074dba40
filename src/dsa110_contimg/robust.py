"""Statistics that outliers do not move."""

import numpy as np

_SIGMA_PER_MAD = 1.4826
NORMAL_QUARTILE = 1 / _SIGMA_PER_MAD
"""Median of the absolute value of a normal deviate."""
CAUCHY_SCALE = 2.385
"""Residual, in standard errors, at which a Cauchy weight is one half: 95 % efficient for Gaussian
noise (Holland and Welsch 1977, Communications in Statistics A6, 813)."""
MEDIAN_OVER_MEAN = float(np.sqrt(np.pi / 2))
"""Standard error of the median over that of the mean, of a normal distribution."""


def robust_rms(values: np.ndarray) -> float:
    """Standard deviation from the median absolute deviation, blind to NaN; NaN of nothing."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return float("nan")
    return float(_SIGMA_PER_MAD * np.median(np.abs(finite - np.median(finite))))


def component_variance(squares: np.ndarray) -> float:
    """Variance of the real component of complex normal noise, from squared absolute values.

    The median of a chi-square of two degrees of freedom is 2 ln 2. NaN of nothing.
    """
    return float(np.median(squares) / (2 * np.log(2))) if squares.size else float("nan")


def median_error(values: np.ndarray) -> float:
    """Standard error of the median of values that are nearly normal."""
    return MEDIAN_OVER_MEAN * robust_rms(values) / float(np.sqrt(values.size))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Value at which half of the weight lies below, between the nearest two."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(0.5 * weights.sum(), below, values[order]))


def cauchy_weights(pull: np.ndarray) -> np.ndarray:
    """Return weights that lower the influence of outliers.

    Parameters
    ----------
    pull : ndarray
        Residuals in standard errors.
    """
    return np.asarray(1 / (1 + (pull / CAUCHY_SCALE) ** 2))
