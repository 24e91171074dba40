"""Power response of a dish: the Airy pattern of a uniformly illuminated aperture.

``A(theta) = (2 J1(x) / x)**2`` with ``x = pi D sin(theta) / lambda``
(Born and Wolf, Principles of Optics, section 8.5.2). Half power lies at
``theta = 0.5145 lambda / D``.
"""

from functools import cache

import numba
import numpy as np
from scipy import interpolate, special

from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import BeamShape

_TABLE_STEP = 1.0 / 256
_TABLE_END = 40.0
_COARSE_PIXELS = 129
_SLOPES_END = 2.83
"""Where the response of an Airy pattern is 0.05."""


def voltage_response(
    sin_theta: np.ndarray | float, frequency_hz: np.ndarray | float, dish_m: np.ndarray | float
) -> np.ndarray:
    """Response in voltage at an angle from the dish axis, one on axis.

    Parameters
    ----------
    sin_theta, frequency_hz, dish_m : ndarray or float
        Broadcast together; the last is the diameter of the aperture.
    """
    x = np.pi * dish_m / SPEED_OF_LIGHT_M_S * np.asarray(sin_theta) * np.asarray(frequency_hz)
    safe = np.where(np.abs(x) < 1e-6, 1e-6, x)
    return np.asarray(2 * special.j1(safe) / safe)


def power_response(sin_theta: np.ndarray, frequency_hz: np.ndarray, dish_m: float) -> np.ndarray:
    """Response in power; the square of `voltage_response`."""
    return voltage_response(sin_theta, frequency_hz, dish_m) ** 2


def beam_axis(pointings: np.ndarray, shape: BeamShape) -> np.ndarray:
    """Directions of the beam's centre, ICRS unit vectors.

    Parameters
    ----------
    pointings : ndarray, shape (ntime, 3)
        Nominal dish axis.
    shape : BeamShape
    """
    ra, _ = astrometry.vector_to_radec(pointings)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.cross(pointings, east)
    moved = pointings + shape.east_rad * east + shape.north_rad * north
    return np.asarray(moved / np.linalg.norm(moved, axis=-1, keepdims=True))


def voltage_slopes(
    axis: np.ndarray, directions: np.ndarray, frequency_hz: float, dish_m: float
) -> np.ndarray:
    """Derivatives of the logarithm of an antenna's voltage response.

    With ``V(x) = 2 J1(x) / x`` the derivative is ``d ln V / dx = -J2(x) / J1(x)``.

    Parameters
    ----------
    axis : ndarray, shape (ntime, 3)
        Directions of the beam's centre, ICRS.
    directions : ndarray, shape (nsource, 3)
    frequency_hz, dish_m : float

    Returns
    -------
    ndarray, shape (ntime, nsource, 3)
        By the logarithm of the width and by the pointing east and north (per rad). Zero where the
        response in power is below 0.05: the slope has no bound near the first null.
    """
    ra, _ = astrometry.vector_to_radec(axis)
    east_axis = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    east = east_axis @ directions.T
    north = np.cross(axis, east_axis) @ directions.T
    per_rad = np.pi * dish_m * frequency_hz / SPEED_OF_LIGHT_M_S
    x = np.maximum(per_rad * np.hypot(east, north), 1e-6)
    inside = (axis @ directions.T > 0) & (x < _SLOPES_END)
    steepness = np.where(inside, special.jv(2, np.where(inside, x, 1.0)), 0.0)
    steepness /= special.j1(np.where(inside, x, 1.0))
    return np.stack(
        [steepness * x, steepness * per_rad**2 * east / x, steepness * per_rad**2 * north / x],
        axis=-1,
    )


@cache
def _airy_table() -> np.ndarray:
    x = np.arange(0.0, _TABLE_END + 2 * _TABLE_STEP, _TABLE_STEP)
    x[0] = 1e-6
    return (2 * special.j1(x) / x) ** 2


@numba.njit(cache=True)
def _sum_of_airy(
    sin_theta: np.ndarray,
    weights: np.ndarray,
    x_per_sin: np.ndarray,
    table: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add ``sum_f weights[f] A(x_per_sin[f] sin_theta)`` to every element of `total`."""
    for i in range(sin_theta.size):
        for f in range(weights.size):
            at = min(sin_theta[i] * x_per_sin[f], _TABLE_END) / _TABLE_STEP
            k = int(at)
            part = at - k
            total[i] += weights[f] * (table[k] * (1 - part) + table[k + 1] * part)


def effective_beam(
    pointings: np.ndarray,
    frequencies_hz: np.ndarray,
    weights: np.ndarray,
    dish_m: float,
    phase_centre_rad: tuple[float, float],
    npix: int,
    cell_rad: float,
) -> np.ndarray:
    """Primary beam of an image made while the sky drifted through the beam.

    The mean of the response over integrations and channels with the weights that were
    imaged, which is what multiplies the flux density of a steady source in the image.

    Parameters
    ----------
    pointings : ndarray, shape (ntime, 3)
        Dish axis, ICRS.
    frequencies_hz : ndarray, shape (nfreq,)
    weights : ndarray, shape (ntime, nfreq)
        Sum of imaging weights.
    dish_m : float
    phase_centre_rad : tuple of float
    npix : int
        The image is npix by npix, its centre at pixel npix // 2.
    cell_rad : float

    Returns
    -------
    ndarray of float32, shape (npix, npix)
        Rows north, columns in order of *decreasing* right ascension (FITS order).
    """
    edge = np.linspace(-0.5, npix - 0.5, min(npix, _COARSE_PIXELS))
    offset = (edge - npix // 2) * cell_rad
    m, l = np.meshgrid(offset, -offset, indexing="ij")
    r2 = l**2 + m**2
    n = np.sqrt(np.maximum(0.0, 1 - r2))
    vectors = np.stack([l, m, n], axis=-1) @ astrometry.tangent_axes(*phase_centre_rad)
    x_per_sin = np.pi * dish_m * frequencies_hz / SPEED_OF_LIGHT_M_S
    total = np.zeros(l.size)
    for pointing, row in zip(pointings, np.asarray(weights, float), strict=True):
        cos_theta = vectors.reshape(-1, 3) @ pointing
        sin_theta = np.sqrt(np.maximum(0.0, 1 - cos_theta**2))
        _sum_of_airy(sin_theta, row, x_per_sin, _airy_table(), total)
    coarse = (total / np.sum(weights)).reshape(l.shape)
    # The beam is smooth on the coarse grid (129 points over a few half-power widths), so a
    # cubic spline brings it to every pixel with an error below 1e-5.
    spline = interpolate.RectBivariateSpline(edge, edge, coarse)
    pixels = np.arange(npix)
    return np.asarray(spline(pixels, pixels), np.float32)


def correction(response: np.ndarray, lowest: float) -> np.ndarray:
    """Compute the factor that corrects an image for the beam; NaN where the response is below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(response >= lowest, 1 / response, np.nan)
