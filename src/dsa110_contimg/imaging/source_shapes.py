"""Shapes of bright sources, measured in the visibilities.

The components of CLEAN follow a resolved source on the baselines that the imaging weights favour,
and extrapolate it to the short ones, which alone see its total flux density: a source of 40 arcsec
loses 3 per cent. A Gaussian that is fitted to all baselines holds the total; what it does not
describe is left to CLEAN.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from dsa110_contimg.imaging import components
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.visibilities.averaging import Samples

_ENOUGH_SAMPLES = 60_000
_RINGS, _SECTORS = 40, 16
"""Cells of half of the uv-plane, even in the logarithm of the radius and in the angle."""
_INNERMOST = 0.01
"""Radius of the innermost cells, in units of the longest baseline."""
_TRIALS = 0.25, 0.5, 1.0, 2.0, 4.0
"""Circular sources from which a fit starts, in units of the resolution `1 / longest baseline`."""
_SMALLEST, _LARGEST = 0.3, 8.0
"""Limits of a major axis, in units of the resolution. Of larger sources the shortest baselines see
too little for a fit."""
_SIGNIFICANCE = 7.0
_PARAMETERS = 6


def fit_shapes(samples: Samples, sources: components.Sources, which: np.ndarray) -> Shapes:
    """Measure shapes; a source that is not resolved keeps the shape that it has.

    The visibilities of each source, free of the other sources, are referred to its position and
    averaged in cells of the uv-plane. A Gaussian of free flux density, position and shape is
    fitted to the averages: because its position is free, a source that the ionosphere has moved
    does not seem resolved.

    Parameters
    ----------
    samples : Samples
    sources : Sources
        All sources of the tile that are bright enough to disturb others, with their apparent
        flux densities.
    which : ndarray of int
        Sources to measure.

    Returns
    -------
    Shapes
        Of all sources.
    """
    if which.size == 0:
        return sources.shapes
    some = samples.thinned(_ENOUGH_SAMPLES)
    residual = some.values - components.source_values(some, sources)
    radius = np.hypot(some.uvw_lambda[:, 0], some.uvw_lambda[:, 1])
    cell = _cells(some.uvw_lambda, radius)
    count = sources.lmn.shape[0]
    shapes = sources.shapes.each(count)
    fitted = np.stack([shapes.major_rad, shapes.minor_rad, shapes.angle_rad])
    for number in which:
        one = sources.select(np.array([number]))
        point = components.source_values(some, replace(one, shapes=POINTS))
        wide = shapes.major_rad[number] > 0
        own = components.source_values(some, one) if wide else point
        shape = _resolved(_averages(some, residual + own, point, cell), 1 / radius.max())
        if shape is not None:
            fitted[:, number] = shape.major_rad[0], shape.minor_rad[0], shape.angle_rad[0]
    return Shapes(*fitted)


@dataclass(frozen=True, eq=False)
class _Averages:
    """Visibilities of one source over those of the point it was taken for.

    Attributes
    ----------
    ratio : ndarray of complex, shape (ncell,)
    weight : ndarray, shape (ncell,)
        Of the ratios, inverse variances.
    uv : ndarray, shape (ncell, 2)
        Mean u and v, wavelengths.
    products : ndarray, shape (ncell, 3)
        Mean squares: u u, u v, v v.
    """

    ratio: np.ndarray
    weight: np.ndarray
    uv: np.ndarray
    products: np.ndarray

    def misfit(self, model: np.ndarray) -> np.ndarray:
        """Differences in units of their errors, real parts and imaginary parts."""
        difference = np.sqrt(self.weight) * (self.ratio - model)
        return np.concatenate([difference.real, difference.imag])


def _cells(uvw_lambda: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Cell of the uv-plane of each sample; opposite halves are one."""
    u, v = uvw_lambda[:, 0], uvw_lambda[:, 1]
    turn = np.arctan2(v, u) / np.pi % 1
    depth = np.log(np.maximum(radius / radius.max(), _INNERMOST)) / np.log(_INNERMOST)
    ring = np.minimum((depth * _RINGS).astype(int), _RINGS - 1)
    sector = np.minimum((turn * _SECTORS).astype(int), _SECTORS - 1)
    return np.asarray(ring * _SECTORS + sector)


def _averages(
    samples: Samples, values: np.ndarray, point: np.ndarray, cell: np.ndarray
) -> _Averages:
    """Average over cells; samples of one half of the uv-plane count as those of the other."""
    weight = samples.weights * (point.real**2 + point.imag**2)
    product = samples.weights * values * point.conj()
    u, v = samples.uvw_lambda[:, 0], samples.uvw_lambda[:, 1]
    side = np.where((v < 0) | ((v == 0) & (u < 0)), -1.0, 1.0)
    ncell = _RINGS * _SECTORS
    total = np.bincount(cell, weight, ncell)
    used = total > 0

    def mean(quantity: np.ndarray) -> np.ndarray:
        return np.asarray(np.bincount(cell, quantity, ncell)[used] / total[used])

    return _Averages(
        mean(product.real) + 1j * mean(side * product.imag),
        total[used],
        np.stack([mean(side * weight * u), mean(side * weight * v)], axis=1),
        np.stack([mean(weight * u * u), mean(weight * u * v), mean(weight * v * v)], axis=1),
    )


def _resolved(averages: _Averages, resolution_rad: float) -> Shapes | None:
    """Shape of a source that is resolved beyond doubt."""
    unit = resolution_rad / np.sqrt(8 * np.log(2))

    def model(parameters: np.ndarray) -> np.ndarray:
        flux, l, m, p, q, r = parameters
        moments = np.array([p * p, p * q, q * q + r * r]) * unit**2
        seen = averages.products @ (2 * np.pi**2 * moments * [1, 2, 1])
        turns = averages.uv @ (np.array([l, m]) * resolution_rad)
        return np.asarray(flux * np.exp(-seen + 2j * np.pi * turns))

    def fit(start: np.ndarray, free: slice) -> tuple[np.ndarray, float]:
        def misfit(values: np.ndarray) -> np.ndarray:
            start[free] = values
            return averages.misfit(model(start))

        start = start.copy()
        best = optimize.least_squares(misfit, start[free])
        start[free] = best.x
        return start, 2 * best.cost

    def trial(size: float) -> tuple[float, np.ndarray]:
        start = np.array([1.0, 0, 0, size, 0, size])
        profile = model(start).real
        start[0] = (
            (averages.weight * profile) @ averages.ratio.real / (averages.weight @ profile**2)
        )
        return float(np.sum(averages.misfit(model(start)) ** 2)), start

    as_point, _ = trial(0.0)
    left, start = min((trial(size) for size in _TRIALS), key=lambda pair: pair[0])
    if as_point - left < _SIGNIFICANCE**2 * _reduced_chi_square(averages, left):
        return None
    parameters, left = fit(start, slice(None))
    _, as_point = fit(np.array([1.0, 0, 0, 0, 0, 0]), slice(3))
    _, _, _, p, q, r = parameters
    shape = Shapes.of_covariances_rad2(np.array([[p * p, p * q, q * q + r * r]]) * unit**2)
    if as_point - left < _SIGNIFICANCE**2 * _reduced_chi_square(averages, left):
        return None
    if not _SMALLEST <= shape.major_rad[0] / resolution_rad <= _LARGEST:
        return None
    return shape


def _reduced_chi_square(averages: _Averages, chi_square: float) -> float:
    """Compute the reduced chi-square of a Gaussian; never zero, because it scales errors."""
    return max(chi_square / max(2 * averages.ratio.size - _PARAMETERS, 1), 1e-30)
