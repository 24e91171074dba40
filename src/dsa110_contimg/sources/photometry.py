"""Peak flux density and position of compact sources near known positions."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.imaging.sky_image import SkyImage, scales_rad

_OFFSETS_Y, _OFFSETS_X = np.mgrid[-1:2, -1:2].reshape(2, -1)
_DESIGN = np.stack(
    [np.ones(9), _OFFSETS_X, _OFFSETS_Y, _OFFSETS_X**2, _OFFSETS_X * _OFFSETS_Y, _OFFSETS_Y**2],
    axis=1,
)
_SOLVE = np.linalg.pinv(_DESIGN)


@dataclass(frozen=True, eq=False)
class Measurements:
    """Peaks near some positions; NaN where the image has no pixels.

    Attributes
    ----------
    peak_jy : ndarray, shape (nsource,)
        Jy per beam, at the peak between pixels.
    noise_jy : ndarray, shape (nsource,)
    offset_east_rad, offset_north_rad : ndarray, shape (nsource,)
        Measured minus given position.
    observed : ndarray of bool, shape (nsource,)
        True where the image has pixels all around the position.
    """

    peak_jy: np.ndarray
    noise_jy: np.ndarray
    offset_east_rad: np.ndarray
    offset_north_rad: np.ndarray
    observed: np.ndarray


def measure_at(
    image: SkyImage, noise: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray
) -> Measurements:
    """Measure the highest peak within half a beam of each position.

    A paraboloid through the logarithms of the 3 x 3 pixels around the highest one is exact
    for a Gaussian beam of any shape and orientation.

    Parameters
    ----------
    image : SkyImage
        Jy per beam.
    noise : ndarray, shape of the image
        rms, Jy per beam.
    ra_deg, dec_deg : ndarray, shape (nsource,)
    """
    x, y = image.pixel(ra_deg, dec_deg)
    reach = 2
    if image.beam is not None:
        reach = max(reach, int(np.ceil(0.5 * image.beam.major_rad / image.cell_rad)))
    n = len(ra_deg)
    peak, sigma = np.full(n, np.nan), np.full(n, np.nan)
    steps = np.full((n, 2), np.nan)
    observed = np.zeros(n, bool)
    ny, nx = image.pixels.shape
    margin = reach + 1
    for i in range(n):
        if not (margin <= x[i] < nx - margin - 1 and margin <= y[i] < ny - margin - 1):
            continue
        column, row = round(x[i]), round(y[i])
        box = image.pixels[row - margin : row + margin + 1, column - margin : column + margin + 1]
        if not np.isfinite(box).all():
            continue
        observed[i] = True
        inner = box[1:-1, 1:-1]
        j, k = np.unravel_index(int(inner.argmax()), inner.shape)
        nine = box[j : j + 3, k : k + 3]
        sigma[i] = noise[row, column]
        dx = dy = 0.0
        value = float(nine[1, 1])
        if nine.min() > 0:
            c = _SOLVE @ np.log(nine.ravel().astype(float))
            hessian = np.array([[2 * c[3], c[4]], [c[4], 2 * c[5]]])
            if np.linalg.det(hessian) > 0 and hessian[0, 0] < 0:
                dx, dy = np.linalg.solve(hessian, -c[1:3])
                if max(abs(dx), abs(dy)) <= 1.0:
                    value = float(np.exp(c[0] + 0.5 * (c[1] * dx + c[2] * dy)))
                else:
                    dx = dy = 0.0
        peak[i] = value
        steps[i] = column + k - reach + dx - x[i], row + j - reach + dy - y[i]
    offsets = np.full((n, 2), np.nan)
    if observed.any():
        scales = scales_rad(image, x[observed], y[observed])
        offsets[observed] = np.einsum("nij,nj->ni", scales, steps[observed])
    return Measurements(peak, sigma, offsets[:, 0], offsets[:, 1], observed)
