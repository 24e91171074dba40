"""Flux densities at known positions, whether anything is seen there or not."""

from dataclasses import dataclass

import numba
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.sky import astrometry

_TAPS = 4
_KAISER = 6.0
_REACH_BEAMS = 2.0
_TOO_NEAR_BEAMS = 0.5


@dataclass(frozen=True, eq=False)
class ForcedFluxes:
    """What an image holds at some positions.

    Attributes
    ----------
    flux_jy : ndarray, shape (nsource,)
        Of compact sources; NaN where the image has no pixels, or a brighter position is nearer
        than half a beam.
    error_jy : ndarray, shape (nsource,)
        From the noise alone.
    """

    flux_jy: np.ndarray
    error_jy: np.ndarray


def measure(
    image: Image, noise: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray
) -> ForcedFluxes:
    """Measure compact sources at fixed positions, all at once.

    An image is the sky seen through its beam, so the value at a position is the source's peak and
    what its neighbours add: ``d = B S``, B holding the beam between each two positions. The noise
    has the beam's correlation, so the errors of S are those of ``sigma^2 B^-1``.

    Parameters
    ----------
    image : Image
        Jy per beam, with its beam; NaN where nothing was observed.
    noise : ndarray, shape of the image
        rms, Jy per beam.
    ra_deg, dec_deg : ndarray, shape (nsource,)
        Where two are too near to be told apart the first is measured.
    """
    n = len(ra_deg)
    flux, error = np.full(n, np.nan), np.full(n, np.nan)
    if n == 0 or image.beam is None:
        return ForcedFluxes(flux, error)
    x, y = image.wcs.all_world2pix(ra_deg, dec_deg, 0)
    value = _values(image.pixels.astype(np.float32), x, y)
    sigma = _nearest(noise, x, y)
    good = np.flatnonzero(np.isfinite(value) & np.isfinite(sigma))
    vectors = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
    kept = good[_apart(vectors[good], _TOO_NEAR_BEAMS * image.beam.major_rad)]
    if kept.size == 0:
        return ForcedFluxes(flux, error)
    pairs = KDTree(vectors[kept]).query_pairs(
        _REACH_BEAMS * image.beam.major_rad, output_type="ndarray"
    )
    first, second = kept[pairs[:, 0]], kept[pairs[:, 1]]
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    east = np.angle(np.exp(1j * (ra[first] - ra[second]))) * np.cos((dec[first] + dec[second]) / 2)
    north = dec[first] - dec[second]
    # The form's x goes west.
    q = image.beam.quadratic_form(1.0)
    shared = np.exp(-(q[0, 0] * east**2 - 2 * q[0, 1] * east * north + q[1, 1] * north**2))
    m = kept.size
    rows = np.concatenate([pairs[:, 0], pairs[:, 1], np.arange(m)])
    columns = np.concatenate([pairs[:, 1], pairs[:, 0], np.arange(m)])
    beams = sparse.csc_matrix(
        (np.concatenate([shared, shared, np.ones(m)]), (rows, columns)), shape=(m, m)
    )
    flux[kept] = splu(beams).solve(value[kept].astype(float))
    error[kept] = sigma[kept] * np.sqrt(_inverse_diagonal(beams))
    return ForcedFluxes(flux, error)


def _inverse_diagonal(beams: sparse.csc_matrix) -> np.ndarray:
    """Diagonal of B^-1: one but for those that have neighbours, who form small clusters."""
    diagonal = np.ones(beams.shape[0])
    _, cluster = csgraph.connected_components(beams, directed=False)
    order = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        if members.size > 1:
            part = beams[members][:, members].toarray()
            diagonal[members] = np.diag(np.linalg.inv(part))
    return diagonal


def _apart(vectors: np.ndarray, radius_rad: float) -> np.ndarray:
    """Indices of positions without an earlier one within a radius."""
    if len(vectors) == 0:
        return np.zeros(0, int)
    dropped = np.zeros(len(vectors), bool)
    for a, b in sorted(KDTree(vectors).query_pairs(radius_rad)):
        if not dropped[a]:
            dropped[b] = True
    return np.flatnonzero(~dropped)


def _nearest(plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    ny, nx = plane.shape
    inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    out = np.full(x.shape, np.nan)
    out[inside] = plane[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    return out


def _values(pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolation between pixels by a windowed sinc, exact to 0.1 % for a beam of four cells.

    NaN within four pixels of the edge of what was observed.
    """
    return _weighted(pixels, *_kernel(x), *_kernel(y))


def _kernel(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First pixel, and the weights of eight."""
    first = np.floor(at).astype(int) - _TAPS + 1
    distance = (at - first)[:, None] - np.arange(2 * _TAPS)
    window = np.i0(_KAISER * np.sqrt(np.clip(1 - (distance / _TAPS) ** 2, 0, 1)))
    weights = np.sinc(distance) * window
    return first, weights / weights.sum(axis=1, keepdims=True)


@numba.njit(cache=True, error_model="numpy")
def _weighted(
    pixels: np.ndarray, x0: np.ndarray, wx: np.ndarray, y0: np.ndarray, wy: np.ndarray
) -> np.ndarray:
    out = np.full(x0.size, np.nan)
    ny, nx = pixels.shape
    for i in range(x0.size):
        if x0[i] < 0 or y0[i] < 0 or x0[i] + 2 * _TAPS > nx or y0[i] + 2 * _TAPS > ny:
            continue
        total = 0.0
        for b in range(2 * _TAPS):
            for a in range(2 * _TAPS):
                total += wy[i, b] * wx[i, a] * pixels[y0[i] + b, x0[i] + a]
        out[i] = total
    return out
