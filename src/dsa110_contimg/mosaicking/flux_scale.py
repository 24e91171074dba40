"""Flux scale of every tile, from all sources that tiles and a catalogue have in common.

The logarithm of a source's measured over listed flux density is the sum of the tile's scale, of
what the source differs from the catalogue by, and of noise. All scales and all sources are solved
together, as Padmanabhan et al. 2008 (ApJ 674, 1217) solve zero points and magnitudes, with the
catalogue as a prior for each source. Both the noise and the prior have Cauchy weights, so a source
that varies moves no scale, however strong it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.robust import cauchy_weights, robust_rms

_SIGNIFICANT = 3.0
_MEASUREMENT_ERROR = 0.01
"""Of a flux density in a tile besides the noise: sidelobes, and the beam's gradient."""
_MIN_CATALOGUE_ERROR, _CATALOGUE_ERROR = 0.01, 0.05
"""Least scatter about the catalogue, and what is assumed of too few sources."""
_ROUNDS = 20
_MIN_SOURCES = 5
_MAX_CHANGE = 0.3
"""A larger change of the flux scale is no receiver's."""


@dataclass(frozen=True)
class TileScale:
    """Flux scale of a tile.

    Attributes
    ----------
    scale : float
        Measured over true flux density.
    error : float
        Standard error, as a fraction.
    n_sources : int
    applied : bool
        Whether the mosaic's tile is divided by it: it is significant, and a receiver can do so.
    """

    scale: float = 1.0
    error: float = float("inf")
    n_sources: int = 0
    applied: bool = False

    @property
    def divisor(self) -> float:
        """What the tile's flux densities are divided by."""
        return self.scale if self.applied else 1.0


def tile_scales(
    tile: np.ndarray, source: np.ndarray, ratio: np.ndarray, error: np.ndarray, n_tiles: int
) -> tuple[TileScale, ...]:
    """Solve the flux scales of tiles.

    Parameters
    ----------
    tile, source : ndarray of int, shape (nmeasurement,)
        Which tile measured which source.
    ratio, error : ndarray, shape (nmeasurement,)
        Measured over listed flux density, positive, and its relative standard error by the noise.
    n_tiles : int
    """
    number = np.bincount(tile, minlength=n_tiles)
    if ratio.size < _MIN_SOURCES:
        return tuple(TileScale(n_sources=int(n)) for n in number)
    y = np.log(ratio)
    sigma = np.hypot(error, _MEASUREMENT_ERROR)
    n_sources = int(source.max()) + 1
    scale = np.full(n_tiles, np.median(y))
    offset = _source_means(y - scale[tile], sigma**-2, source, n_sources)
    for _ in range(_ROUNDS):
        spread = _catalogue_scatter(offset)
        prior = spread**-2 * cauchy_weights(offset / spread)
        weight = sigma**-2 * cauchy_weights((y - scale[tile] - offset[source]) / sigma)
        scale, offset, covariance = _solve(tile, source, y, weight, prior, n_tiles)
    used = cauchy_weights((y - scale[tile] - offset[source]) / sigma) > 0.5
    excess = robust_rms(((y - scale[tile] - offset[source]) / sigma)[used])
    standard = np.sqrt(np.diag(covariance)) * max(1.0, excess)
    return tuple(
        _judged(float(np.exp(s)), float(e), int(n))
        for s, e, n in zip(scale, standard, number, strict=True)
    )


def _judged(scale: float, error: float, n_sources: int) -> TileScale:
    if n_sources < _MIN_SOURCES:
        return TileScale(n_sources=n_sources)
    # The last bits of matrix products depend on the number of threads.
    scale, error = round(scale, 6), round(error, 6)
    return TileScale(scale, error, n_sources, _SIGNIFICANT * error < abs(scale - 1) < _MAX_CHANGE)


def _solve(
    tile: np.ndarray,
    source: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    prior: np.ndarray,
    n_tiles: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares; the sources are eliminated, so that only tiles are inverted.

    Returns
    -------
    scale, offset : ndarray, shape (ntile,) and (nsource,)
    covariance : ndarray, shape (ntile, ntile)
        Of the scales.
    """
    n_sources = prior.size
    shared = np.zeros((n_tiles, n_sources))
    np.add.at(shared, (tile, source), weight)
    right = np.bincount(tile, weight * y, n_tiles)
    total = shared.sum(axis=0) + prior
    of_source = np.bincount(source, weight * y, n_sources)
    normal = np.diag(shared.sum(axis=1)) - (shared / total) @ shared.T
    covariance = np.linalg.pinv(normal, hermitian=True)
    scale = covariance @ (right - shared @ (of_source / total))
    offset = (of_source - shared.T @ scale) / total
    return scale, offset, covariance


def _source_means(
    value: np.ndarray, weight: np.ndarray, source: np.ndarray, n_sources: int
) -> np.ndarray:
    total = np.bincount(source, weight, n_sources)
    return np.asarray(np.bincount(source, weight * value, n_sources) / np.maximum(total, 1e-30))


def _catalogue_scatter(offset: np.ndarray) -> float:
    """How well the catalogue tells what sources are today, by most of them."""
    if offset.size < 2 * _MIN_SOURCES:
        return _CATALOGUE_ERROR
    return max(robust_rms(offset), _MIN_CATALOGUE_ERROR)


def same_sources(places: Sequence[tuple[float, float]]) -> np.ndarray:
    """Number of the source of each place; equal places are one source."""
    numbers: dict[tuple[float, float], int] = {}
    return np.array([numbers.setdefault(place, len(numbers)) for place in places], int)
