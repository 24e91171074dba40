"""Bright sources, measured in the visibilities at their catalogue positions.

A CLEAN component sits on a pixel, keeps one flux density for the whole tile and the whole band,
and leaves a ten-thousandth to a hundredth of a source behind as sidelobes. A source at a known
position is taken out better by fitting its apparent flux density, with the drift through the beam
and the spectrum that the model expects, by linear least squares. The position comes from the
catalogue, the flux density from the data, the shape from the data where they resolve the source.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy import linalg

from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.visibilities import averaging
from dsa110_contimg.visibilities.averaging import Samples

_ENOUGH_SAMPLES = 500_000
"""A fit to every so many samples is good to about the noise of the image; what it misses is left
in the residual image."""
_BINS = 16
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Sources:
    """Sources whose flux densities change with time and frequency.

    Attributes
    ----------
    lmn : ndarray, shape (nsource, 3)
        Direction cosines.
    flux_jy : ndarray of float32, shape (ntime, nbin, nsource)
    bin_edges_hz : ndarray, shape (nbin + 1,)
        Evenly spaced.
    shapes : Shapes
    """

    lmn: np.ndarray
    flux_jy: np.ndarray
    bin_edges_hz: np.ndarray
    shapes: Shapes

    def select(self, index: np.ndarray) -> "Sources":
        """Some of the sources."""
        return Sources(
            self.lmn[index],
            np.ascontiguousarray(self.flux_jy[:, :, index]),
            self.bin_edges_hz,
            self.shapes.select(index),
        )

    def scaled(self, factors: np.ndarray) -> "Sources":
        """Sources so many times as bright."""
        flux = self.flux_jy * factors.astype(np.float32)
        return Sources(self.lmn, flux, self.bin_edges_hz, self.shapes)


def frequency_bins(frequencies_hz: np.ndarray) -> np.ndarray:
    """Edges of bins in which a source's flux density is taken as constant."""
    return np.linspace(frequencies_hz.min() - 1, frequencies_hz.max() + 1, _BINS + 1)


def source_values(samples: Samples, sources: Sources) -> np.ndarray:
    """What sources give to samples, smeared as the samples are.

    Returns
    -------
    ndarray of complex64, shape (nsample,)
    """
    flux, kind, frequency_bin = _mean_flux(samples, sources)
    out = np.zeros(samples.weights.size, np.complex64)
    _add_points(
        samples.uvw_lambda,
        _directions(sources.lmn),
        sources.shapes.uv_forms(),
        flux,
        kind,
        frequency_bin,
        samples.baseline,
        _kept(samples, sources.lmn),
        out,
    )
    return out


def pixel_values(samples: Samples, lmn: np.ndarray, flux_jy: np.ndarray) -> np.ndarray:
    """Samples that constant point sources would give, not smeared; as `source_values`."""
    out = np.zeros(samples.weights.size, np.complex64)
    kind, frequency_bin = np.zeros(out.size, np.int32), np.zeros(out.size, np.int16)
    whole = np.ones((samples.smearing.shape[0], flux_jy.size), np.float32)
    _add_points(
        samples.uvw_lambda,
        _directions(lmn),
        POINTS.each(flux_jy.size).uv_forms(),
        flux_jy.astype(np.float32)[None, None],
        kind,
        frequency_bin,
        samples.baseline,
        whole,
        out,
    )
    return out


def fit_components(samples: Samples, sources: Sources) -> np.ndarray:
    """Factors by which sources are brighter than expected.

    Minimises ``sum w |V - sum_s a_s E_s(t, f) exp(2 pi i (u l + v m + w (n - 1)))|**2``.

    Returns
    -------
    ndarray, shape (nsource,)
    """
    nsource = sources.lmn.shape[0]
    some = samples.thinned(_ENOUGH_SAMPLES)
    flux, kind, frequency_bin = _mean_flux(some, sources)
    normal = np.zeros((nsource, nsource))
    right = np.zeros(nsource)
    _normal_equations(
        some.uvw_lambda,
        some.values,
        some.weights,
        some.baseline,
        kind,
        frequency_bin,
        _directions(sources.lmn),
        sources.shapes.uv_forms(),
        flux,
        _kept(some, sources.lmn),
        normal,
        right,
    )
    normal += np.tril(normal, -1).T
    return np.asarray(linalg.lstsq(normal, right)[0])


def _directions(lmn: np.ndarray) -> np.ndarray:
    return np.column_stack([lmn[:, 0], lmn[:, 1], lmn[:, 2] - 1])


def _kept(samples: Samples, lmn: np.ndarray) -> np.ndarray:
    """What averaging left of each source in each baseline, shape (nbaseline, nsource)."""
    l, m = lmn[:, 0], lmn[:, 1]
    lost = samples.smearing @ np.array([l * l, 2 * l * m, m * m])
    return np.maximum(1 - lost, 0).astype(np.float32)


def _mean_flux(samples: Samples, sources: Sources) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux densities of sources, averaged in time as samples are.

    Returns
    -------
    flux_jy : ndarray of float32, shape (nkind, nbin, nsource)
    kind : ndarray of int32, shape (nsample,)
    frequency_bin : ndarray of int16, shape (nsample,)
    """
    ntime, nbin, nsource = sources.flux_jy.shape
    shares, kind = averaging.integration_shares(samples, ntime)
    flux = shares.astype(np.float32) @ sources.flux_jy.reshape(ntime, -1)
    low, width = sources.bin_edges_hz[0], sources.bin_edges_hz[1] - sources.bin_edges_hz[0]
    frequency_bin = ((samples.frequency_hz - np.float32(low)) / np.float32(width)).astype(np.int16)
    return flux.reshape(shares.shape[0], nbin, nsource), kind, np.clip(frequency_bin, 0, nbin - 1)


_f4 = np.float32
_ONE, _TWO = _f4(1), _f4(2)
_S3, _S5, _S7, _S9, _S11 = (_f4(x) for x in (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800))
_C2, _C4, _C6, _C8, _C10 = (_f4(x) for x in (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800))


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _fringes(
    u: np.ndarray,
    v: np.ndarray,
    w: np.ndarray,
    direction: np.ndarray,
    form: np.ndarray,
    n: int,
    cos: np.ndarray,
    sin: np.ndarray,
) -> None:
    """Cosine and sine of ``2 pi (u l + v m + w (n - 1))``, good to 1e-6, of a unit Gaussian.

    Taylor series of the half angle, which is at most a quarter turn: without a call or a
    branch in it the loop uses vector instructions.
    """
    l, m, c = direction
    for k in range(n):
        turns = u[k] * l + v[k] * m + w[k] * c
        x = _f4(np.pi * (turns - np.floor(turns + 0.5)))
        q = x * x
        sin_half = x * (_ONE + q * (_S3 + q * (_S5 + q * (_S7 + q * (_S9 + q * _S11)))))
        cos_half = _ONE + q * (_C2 + q * (_C4 + q * (_C6 + q * (_C8 + q * _C10))))
        cos[k] = _ONE - _TWO * sin_half * sin_half
        sin[k] = _TWO * sin_half * cos_half
    a, b, c = form
    if a + c > 0:
        for k in range(n):
            seen = _f4(np.exp(-(a * u[k] * u[k] + 2 * b * u[k] * v[k] + c * v[k] * v[k])))
            cos[k] *= seen
            sin[k] *= seen


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _add_points(
    uvw: np.ndarray,
    directions: np.ndarray,
    forms: np.ndarray,
    flux: np.ndarray,
    kind: np.ndarray,
    frequency_bin: np.ndarray,
    baseline: np.ndarray,
    kept: np.ndarray,
    out: np.ndarray,
) -> None:
    u, v, w = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    cos, sin = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    real, imag = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    constant = flux.shape[0] * flux.shape[1] == 1
    for first in range(0, out.size, _BLOCK):
        n = min(_BLOCK, out.size - first)
        for k in range(n):
            u[k], v[k], w[k] = uvw[first + k]
            real[k] = imag[k] = 0
        for s in range(directions.shape[0]):
            _fringes(u, v, w, directions[s], forms[s], n, cos, sin)
            if constant:
                same = flux[0, 0, s]
                for k in range(n):
                    real[k] += same * cos[k]
                    imag[k] += same * sin[k]
            else:
                for k in range(n):
                    at = first + k
                    here = flux[kind[at], frequency_bin[at], s] * kept[baseline[at], s]
                    real[k] += here * cos[k]
                    imag[k] += here * sin[k]
        for k in range(n):
            out[first + k] += complex(real[k], imag[k])


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _normal_equations(
    uvw: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    baseline: np.ndarray,
    kind: np.ndarray,
    frequency_bin: np.ndarray,
    directions: np.ndarray,
    forms: np.ndarray,
    flux: np.ndarray,
    kept: np.ndarray,
    normal: np.ndarray,
    right: np.ndarray,
) -> None:
    """Add to the lower triangle of the normal matrix and to the right side."""
    nsource = directions.shape[0]
    u, v, w = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    real = np.empty((nsource, _BLOCK), np.float32)
    imag = np.empty((nsource, _BLOCK), np.float32)
    for first in range(0, values.size, _BLOCK):
        n = min(_BLOCK, values.size - first)
        for k in range(n):
            u[k], v[k], w[k] = uvw[first + k]
        for s in range(nsource):
            _fringes(u, v, w, directions[s], forms[s], n, real[s], imag[s])
            total = 0.0
            for k in range(n):
                at = first + k
                here = flux[kind[at], frequency_bin[at], s] * kept[baseline[at], s]
                here *= np.sqrt(weights[at])
                real[s, k] *= here
                imag[s, k] *= here
                value = np.sqrt(weights[at]) * values[at]
                total += value.real * real[s, k] + value.imag * imag[s, k]
            right[s] += total
            for r in range(s + 1):
                product = _f4(0)
                for k in range(n):
                    product += real[s, k] * real[r, k] + imag[s, k] * imag[r, k]
                normal[s, r] += product


def add_components(
    image: np.ndarray,
    lmn: np.ndarray,
    flux_jy: np.ndarray,
    shapes: Shapes,
    beam: RestoringBeam,
    cell_rad: float,
) -> None:
    """Put restored sources on an image, at their places between pixels.

    Parameters
    ----------
    image : ndarray, shape (npix, npix)
        Jy per beam, changed in place.
    lmn : ndarray, shape (nsource, 3)
    flux_jy : ndarray, shape (nsource,)
    shapes : Shapes
    beam : RestoringBeam
    cell_rad : float
    """
    npix = image.shape[0]
    forms, peaks = beam.seen(shapes)
    wide_rad = np.hypot(beam.major_rad, shapes.major_rad)
    for (l, m, _), flux, q, extent in zip(
        lmn, flux_jy * peaks, forms * cell_rad**2, wide_rad, strict=True
    ):
        reach = int(np.ceil(3 * extent / cell_rad))
        x, y = npix // 2 - l / cell_rad, npix // 2 + m / cell_rad
        columns = slice(max(0, round(x) - reach), max(0, round(x) + reach + 1))
        rows = slice(max(0, round(y) - reach), max(0, round(y) + reach + 1))
        box = image[rows, columns]
        dy, dx = np.indices(box.shape)
        dy, dx = dy + rows.start - y, dx + columns.start - x
        box += flux * np.exp(-(q[0, 0] * dx**2 + 2 * q[0, 1] * dx * dy + q[1, 1] * dy**2))
