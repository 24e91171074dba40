"""Imaging weights on the uv plane: natural, uniform and Briggs.

Briggs, D. S. 1995, PhD thesis, New Mexico Tech, section 3: with gridded weight ``W`` of a
cell, ``w' = w / (1 + W f**2)``, ``f**2 = (5 * 10**-R)**2 / (sum W**2 / sum w)``.
"""

import numba
import numpy as np

from dsa110_contimg.imaging.options import Weighting

ROBUST = 0.5
"""Briggs' R where neither the user nor the sky asks for less."""
_MIN_ROBUST = -0.5
_PADDING = 1.2
"""The uv plane of a field so many times as wide is what density is counted on."""


def imaging_weights(
    uvw_lambda: np.ndarray,
    weights: np.ndarray,
    npix: int,
    cell_rad: float,
    scheme: Weighting = "briggs",
    robust: float = ROBUST,
    taper_rad: float = 0.0,
) -> np.ndarray:
    """Weights of samples in an image.

    Parameters
    ----------
    uvw_lambda : ndarray, shape (nsample, 3)
    weights : ndarray, shape (nsample,)
        Inverse variances.
    npix : int
    cell_rad : float
        Together they set the size of a uv cell, 1 / (1.2 npix cell), as in WSClean.
    scheme : {"natural", "uniform", "briggs"}
    robust : float
        Briggs' R, -2 nearly uniform, 2 nearly natural.
    taper_rad : float
        Full width at half maximum of the Gaussian that smooths the image; zero for none.

    Returns
    -------
    ndarray of float32, shape (nsample,)
    """
    scaled = _density_weights(uvw_lambda, weights, npix, cell_rad, scheme, robust)
    if taper_rad > 0:
        uv2 = uvw_lambda[:, 0] ** 2 + uvw_lambda[:, 1] ** 2
        scaled *= np.exp(-uv2 * (np.pi * taper_rad) ** 2 / (4 * np.log(2))).astype(np.float32)
    return scaled


def noise_variance(weights: np.ndarray, imaging: np.ndarray) -> float:
    """Square of the noise of an image.

    Parameters
    ----------
    weights : ndarray, shape (nsample,)
        Inverse variances ``n``.
    imaging : ndarray, shape (nsample,)
        Imaging weights ``w``.

    Returns
    -------
    float
        ``sum(w**2 / n) / sum(w)**2`` (Briggs 1995, section 3.2).
    """
    used = imaging > 0
    total = np.sum(imaging, dtype=float)
    return float(np.sum(imaging[used].astype(float) ** 2 / weights[used]) / total**2)


def best_robust(
    uvw_lambda: np.ndarray, weights: np.ndarray, npix: int, cell_rad: float, unmodelled_jy: float
) -> float:
    """Briggs' R that makes the sum of thermal noise and sidelobes smallest.

    With weight ``W`` of a uv cell in the image and ``N`` by its noise, the variance of the image is
    ``(sum W**2 / N + U**2 / 2 sum W**2) / (sum W)**2``: noise, and sidelobes of sources whose flux
    densities squared add up to ``U**2``, at places that are not known. It is smallest for
    ``W = N / (1 + N U**2 / 2)``, which is Briggs' weight with ``f**2 = U**2 / 2``.

    Parameters
    ----------
    uvw_lambda, weights, npix, cell_rad
        As of `imaging_weights`.
    unmodelled_jy : float
        U, for sources that stay in the image with their sidelobes.

    Returns
    -------
    float
        Between -0.5 and 0.5: weights closer to natural would widen the beam.
    """
    if unmodelled_jy <= 0:
        return ROBUST
    grid, _ = _gridded(uvw_lambda, weights, npix, cell_rad)
    mean = np.sum(grid**2) / np.sum(weights, dtype=float)
    robust = np.log10(5.0 / np.sqrt(0.5 * unmodelled_jy**2 * mean))
    return float(np.clip(robust, _MIN_ROBUST, ROBUST))


def _gridded(
    uvw_lambda: np.ndarray, weights: np.ndarray, npix: int, cell_rad: float
) -> tuple[np.ndarray, float]:
    """Sums of weights in the cells of half the uv plane, and the width of the field (rad)."""
    npix = 2 * int(np.ceil(_PADDING * npix / 2))
    field_rad = npix * cell_rad
    grid = np.zeros((npix, npix // 2 + 1))
    _grid_weights(uvw_lambda, weights, field_rad, grid)
    return grid, field_rad


def _density_weights(
    uvw_lambda: np.ndarray,
    weights: np.ndarray,
    npix: int,
    cell_rad: float,
    scheme: Weighting,
    robust: float,
) -> np.ndarray:
    if scheme == "natural":
        on_grid = np.abs(uvw_lambda[:, :2]).max(axis=1) < 0.5 / cell_rad
        return np.where(on_grid, weights, 0).astype(np.float32)
    grid, field_rad = _gridded(uvw_lambda, weights, npix, cell_rad)
    if scheme == "uniform":
        return _divide(uvw_lambda, weights, field_rad, grid, 0.0, 1.0)
    f2 = (5.0 * 10.0**-robust) ** 2 / (np.sum(grid**2) / np.sum(weights, dtype=float))
    return _divide(uvw_lambda, weights, field_rad, grid, 1.0, f2)


@numba.njit(cache=True, error_model="numpy")
def _cell(u: float, v: float, field_rad: float, npix: int) -> tuple[int, int]:
    """Cell of a sample or of its conjugate (v >= 0); (-1, -1) outside the plane."""
    if v < 0:
        u, v = -u, -v
    i = int(np.floor(u * field_rad)) + npix // 2
    j = int(np.floor(v * field_rad))
    if i < 0 or i >= npix or j > npix // 2:
        return -1, -1
    return i, j


@numba.njit(cache=True, error_model="numpy")
def _grid_weights(uvw: np.ndarray, weights: np.ndarray, field_rad: float, grid: np.ndarray) -> None:
    for s in range(weights.size):
        i, j = _cell(uvw[s, 0], uvw[s, 1], field_rad, grid.shape[0])
        if i >= 0:
            grid[i, j] += weights[s]


@numba.njit(cache=True, error_model="numpy")
def _divide(
    uvw: np.ndarray,
    weights: np.ndarray,
    field_rad: float,
    grid: np.ndarray,
    add: float,
    factor: float,
) -> np.ndarray:
    out = np.zeros(weights.size, np.float32)
    for s in range(weights.size):
        i, j = _cell(uvw[s, 0], uvw[s, 1], field_rad, grid.shape[0])
        if i >= 0:
            out[s] = weights[s] / (add + grid[i, j] * factor)
    return out
