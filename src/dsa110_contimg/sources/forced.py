"""Flux densities at known positions, whether anything is seen there or not."""

from dataclasses import dataclass

import numba
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from dsa110_contimg.imaging.sky_image import SkyImage
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.shapes import POINTS, Shapes

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
        Integrated; NaN where the image has no pixels, or a brighter position is nearer
        than half a beam.
    error_jy : ndarray, shape (nsource,)
        From the noise alone.
    """

    flux_jy: np.ndarray
    error_jy: np.ndarray


def measure(
    image: SkyImage,
    noise: np.ndarray,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    shapes: Shapes = POINTS,
) -> ForcedFluxes:
    """Measure sources at fixed positions, all at once.

    An image is the sky seen through its beam, so the value at a position is the source's peak and
    what its neighbours add: ``d = B S``, ``B[i, j]`` being what a source j of 1 Jy gives at the
    position i. The noise has the correlation C of the beam, so S has the covariance
    ``sigma**2 B^-1 C B^-T``.

    Parameters
    ----------
    image : SkyImage
        Jy per beam, with its beam; NaN where nothing was observed.
    noise : ndarray, shape of the image
        rms, Jy per beam.
    ra_deg, dec_deg : ndarray, shape (nsource,)
        Of two that are too near to be separated, the first is measured.
    shapes : Shapes
        Of the sources, without the beam.
    """
    n = len(ra_deg)
    flux, error = np.full(n, np.nan), np.full(n, np.nan)
    if n == 0 or image.beam is None:
        return ForcedFluxes(flux, error)
    x, y = image.pixel(ra_deg, dec_deg)
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
    forms, peaks = image.beam.seen(shapes.each(n).select(kept))
    beam = np.broadcast_to(image.beam.quadratic_form(1.0), forms.shape)

    def matrix(forms: np.ndarray, peaks: np.ndarray) -> sparse.csc_matrix:
        """What each source gives at the positions of all."""
        m = kept.size
        # The form's x goes west.
        first_at_second, second_at_first = (
            peaks[k] * np.exp(-_squares(forms[k], -east, north)) for k in pairs.T
        )
        rows = np.concatenate([pairs[:, 1], pairs[:, 0], np.arange(m)])
        columns = np.concatenate([pairs[:, 0], pairs[:, 1], np.arange(m)])
        entries = np.concatenate([first_at_second, second_at_first, peaks])
        return sparse.csc_matrix((entries, (rows, columns)), shape=(m, m))

    response, correlation = matrix(forms, peaks), matrix(beam, np.ones(kept.size))
    flux[kept] = splu(response).solve(value[kept].astype(float))
    error[kept] = sigma[kept] * np.sqrt(_variances(response, correlation))
    return ForcedFluxes(flux, error)


def _squares(forms: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``(x, y) Q (x, y)`` of each form Q."""
    return np.asarray(forms[:, 0, 0] * x**2 + 2 * forms[:, 0, 1] * x * y + forms[:, 1, 1] * y**2)


def _variances(response: sparse.csc_matrix, correlation: sparse.csc_matrix) -> np.ndarray:
    """Diagonal of ``B^-1 C B^-T``; sources that have neighbours form small clusters."""
    diagonal = 1 / response.diagonal() ** 2
    _, cluster = csgraph.connected_components(response, directed=False)
    order = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        if members.size > 1:
            inverse = np.linalg.inv(response[members][:, members].toarray())
            noise = correlation[members][:, members].toarray()
            diagonal[members] = np.einsum("ij,jk,ik->i", inverse, noise, inverse)
    return np.asarray(diagonal)


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
