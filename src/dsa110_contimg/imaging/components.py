"""Bright compact sources, measured in the visibilities at their catalogue positions.

A CLEAN component sits on a pixel, keeps one flux density for the whole tile and the whole band,
and leaves a ten-thousandth to a hundredth of a source behind as sidelobes. A source at a known
position is taken out better by fitting its apparent flux density, with the drift through the beam
and the spectrum that the model expects, by linear least squares. Only the position and the
shape of the change come from the catalogue; the flux density comes from the data.
"""

import numba
import numpy as np
from scipy import linalg

from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.visibilities.averaging import Samples

_ENOUGH_SAMPLES = 500_000
"""A fit to every so many samples is good to about the noise of the image; what it misses is left
in the residual image."""


def fit_components(
    samples: Samples,
    lmn: np.ndarray,
    expected: np.ndarray,
    frequencies_hz: np.ndarray,
) -> np.ndarray:
    """Factors by which sources are brighter than expected.

    Minimises ``sum w |V - sum_s a_s E_s(t, f) exp(2 pi i (u l + v m + w (n - 1)))|**2``.

    Parameters
    ----------
    samples : Samples
    lmn : ndarray, shape (nsource, 3)
        Direction cosines.
    expected : ndarray, shape (ntime, nsource, nchan)
        Expected apparent flux densities.
    frequencies_hz : ndarray, shape (nchan,)
        Ascending.

    Returns
    -------
    ndarray, shape (nsource,)
    """
    nsource = lmn.shape[0]
    some = slice(None, None, max(1, samples.weights.size // _ENOUGH_SAMPLES))
    channel = np.searchsorted(
        0.5 * (frequencies_hz[1:] + frequencies_hz[:-1]), samples.frequency_hz[some]
    )
    time = np.clip(np.rint(samples.time[some]).astype(np.int64), 0, expected.shape[0] - 1)
    l, m = lmn[:, 0], lmn[:, 1]
    kept = 1 - samples.smearing @ np.array([l * l, 2 * l * m, m * m])
    normal = np.zeros((nsource, nsource))
    right = np.zeros(nsource)
    _normal_equations(
        samples.uvw_lambda[some], samples.values[some], samples.weights[some],
        samples.baseline[some], time, channel,
        np.column_stack([l, m, lmn[:, 2] - 1]),
        np.ascontiguousarray(expected.transpose(0, 2, 1), np.float32), np.maximum(kept, 0.0),
        normal, right,
    )  # fmt: skip
    normal += np.tril(normal, -1).T
    return np.asarray(linalg.lstsq(normal, right)[0])


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _normal_equations(
    uvw: np.ndarray, values: np.ndarray, weights: np.ndarray, baseline: np.ndarray,
    time: np.ndarray, channel: np.ndarray, directions: np.ndarray, expected: np.ndarray,
    kept: np.ndarray,
    normal: np.ndarray, right: np.ndarray,
) -> None:  # fmt: skip
    """Add to the lower triangle of the normal matrix and to the right side."""
    nsource = directions.shape[0]
    real, imag = np.empty(nsource), np.empty(nsource)
    for k in range(values.size):
        weight = weights[k]
        if weight <= 0:
            continue
        for s in range(nsource):
            turns = (
                uvw[k, 0] * directions[s, 0]
                + uvw[k, 1] * directions[s, 1]
                + uvw[k, 2] * directions[s, 2]
            )
            phase = 2 * np.pi * (turns - np.round(turns))
            flux = expected[time[k], channel[k], s] * kept[baseline[k], s]
            real[s], imag[s] = flux * np.cos(phase), flux * np.sin(phase)
        for s in range(nsource):
            right[s] += weight * (values[k].real * real[s] + values[k].imag * imag[s])
            for r in range(s + 1):
                normal[s, r] += weight * (real[s] * real[r] + imag[s] * imag[r])


def add_components(
    image: np.ndarray, lmn: np.ndarray, flux_jy: np.ndarray, beam: RestoringBeam, cell_rad: float
) -> None:
    """Put restored point sources on an image, at their places between pixels.

    Parameters
    ----------
    image : ndarray, shape (npix, npix)
        Jy per beam, changed in place.
    lmn : ndarray, shape (nsource, 3)
    flux_jy : ndarray, shape (nsource,)
    beam : RestoringBeam
    cell_rad : float
    """
    npix = image.shape[0]
    q = beam.quadratic_form(cell_rad)
    reach = int(np.ceil(3 * beam.major_rad / cell_rad))
    for (l, m, _), flux in zip(lmn, flux_jy, strict=True):
        x, y = npix // 2 - l / cell_rad, npix // 2 + m / cell_rad
        columns = slice(max(0, round(x) - reach), max(0, round(x) + reach + 1))
        rows = slice(max(0, round(y) - reach), max(0, round(y) + reach + 1))
        box = image[rows, columns]
        dy, dx = np.indices(box.shape)
        dy, dx = dy + rows.start - y, dx + columns.start - x
        box += flux * np.exp(-(q[0, 0] * dx**2 + 2 * q[0, 1] * dx * dy + q[1, 1] * dy**2))
