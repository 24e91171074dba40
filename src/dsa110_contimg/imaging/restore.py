"""Restoring beam: fitted to the point spread function and put back on CLEAN components."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, interpolate, ndimage, optimize

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky.shapes import Shapes

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
_FIT_ABOVE, _FIT_FULLY = 0.4, 0.6
"""Fractions of the peak between which a pixel of the main lobe gains its weight in the fit: a sharp
border would let the beam jump as pixels cross it."""


@dataclass(frozen=True)
class RestoringBeam:
    """Elliptical Gaussian.

    Attributes
    ----------
    major_rad, minor_rad : float
        Full widths at half maximum.
    position_angle_rad : float
        Of the major axis, north through east, in [0, pi).
    """

    major_rad: float
    minor_rad: float
    position_angle_rad: float

    @property
    def solid_angle_sr(self) -> float:
        """Integral of the Gaussian of unit peak."""
        return float(np.pi * self.major_rad * self.minor_rad / (4 * np.log(2)))

    def quadratic_form(self, cell_rad: float) -> np.ndarray:
        """Matrix Q with ``exp(-(x, y) Q (x, y))``, x in columns (west), y in rows (north)."""
        sin, cos = np.sin(self.position_angle_rad), np.cos(self.position_angle_rad)
        # Axes in (column, row): east is towards smaller columns.
        along, across = np.array([-sin, cos]), np.array([cos, sin])
        scale = 4 * np.log(2) * cell_rad**2
        return scale * (
            np.outer(along, along) / self.major_rad**2
            + np.outer(across, across) / self.minor_rad**2
        )

    def seen(self, shapes: Shapes) -> tuple[np.ndarray, np.ndarray]:
        """Sources of unit flux density as the beam shows them.

        The convolution of two Gaussians has the sum of their second moments.

        Returns
        -------
        forms : ndarray, shape (nsource, 2, 2)
            Matrices Q with ``exp(-(x, y) Q (x, y))``, x west and y north, in rad**-2.
        peaks : ndarray, shape (nsource,)
            Jy per beam of 1 Jy.
        """
        own = np.linalg.inv(2 * self.quadratic_form(1.0))
        east_east, east_north, north_north = shapes.covariances_rad2().T
        moments = own + np.stack(
            [np.stack([east_east, -east_north], 1), np.stack([-east_north, north_north], 1)], 1
        )
        peaks = np.sqrt(np.linalg.det(own) / np.linalg.det(moments))
        return np.linalg.inv(2 * moments), peaks

    def image(self, npix: int, cell_rad: float) -> np.ndarray:
        """Unit-peak Gaussian centred on pixel (npix // 2, npix // 2)."""
        y, x = np.indices((npix, npix)) - npix // 2
        q = self.quadratic_form(cell_rad)
        return np.exp(-(q[0, 0] * x**2 + 2 * q[0, 1] * x * y + q[1, 1] * y**2))


def fit_beam(psf: np.ndarray, cell_rad: float) -> RestoringBeam:
    """Fit the main lobe of a point spread function.

    Parameters
    ----------
    psf : ndarray, shape (npix, npix)
        Peak one at (npix // 2, npix // 2).
    cell_rad : float

    Raises
    ------
    ImagingError
        If there is no main lobe.
    """
    half = min(psf.shape[0] // 2 - 1, 64)
    centre = psf.shape[0] // 2
    box = np.asarray(
        psf[centre - half : centre + half + 1, centre - half : centre + half + 1], float
    )
    label, _ = ndimage.label(box > _FIT_ABOVE)
    lobe = label == label[half, half]
    if not label[half, half] or lobe.sum() < 6:
        # A lobe of a few pixels is undersampled, not absent: widen what is fitted.
        lobe = np.zeros_like(lobe)
        lobe[half - 2 : half + 3, half - 2 : half + 3] = True
    y, x = (axis[lobe] for axis in np.indices(box.shape) - half)
    values = box[lobe]
    ramp = np.clip((values - _FIT_ABOVE) / (_FIT_FULLY - _FIT_ABOVE), 0.01, 1)
    used = values > 0.05
    y, x, values, ramp = y[used], x[used], values[used], ramp[used]
    if values.size < 4 or not np.isfinite(values).all():
        raise ImagingError("the point spread function has no main lobe to fit")

    def misfit(q: np.ndarray) -> np.ndarray:
        return ramp * (np.exp(-(q[0] * x**2 + 2 * q[1] * x * y + q[2] * y**2)) - values)

    # Logarithms give the start: -ln(psf) is quadratic near the peak.
    design = np.stack([x**2, 2 * x * y, y**2], axis=1).astype(float)
    weight = values**2
    start, *_ = np.linalg.lstsq(design * weight[:, None], -np.log(values) * weight, rcond=None)
    q = optimize.least_squares(misfit, start).x
    eigenvalues, vectors = np.linalg.eigh(np.array([[q[0], q[1]], [q[1], q[2]]]))
    if eigenvalues[0] <= 0:
        raise ImagingError("the main lobe of the point spread function is not a peak")
    major, minor = 2 * np.sqrt(np.log(2) / eigenvalues) * cell_rad
    column, row = vectors[:, 0]
    return RestoringBeam(float(major), float(minor), float(np.mod(np.arctan2(-column, row), np.pi)))


def restore(
    model: np.ndarray, residual: np.ndarray, beam: RestoringBeam, cell_rad: float
) -> np.ndarray:
    """CLEAN components convolved with the restoring beam, plus the residual.

    Parameters
    ----------
    model : ndarray, shape (npix, npix)
        Jy per pixel.
    residual : ndarray, shape (npix, npix)
        Jy per beam.
    beam : RestoringBeam
    cell_rad : float

    Returns
    -------
    ndarray of float32, shape (npix, npix), Jy per beam
    """
    if not np.any(model):
        return residual.astype(np.float32)
    npix = model.shape[0]
    # Padded by a beam's reach, so that the convolution does not wrap around the edges.
    reach = min(npix, int(np.ceil(4 * beam.major_rad / cell_rad)))
    size = fft.next_fast_len(npix + 2 * reach, real=True)
    padded = np.zeros((size, size))
    padded[:npix, :npix] = model
    kernel_size = 2 * reach + 1
    kernel = np.zeros((size, size))
    kernel[:kernel_size, :kernel_size] = beam.image(kernel_size, cell_rad)
    kernel = np.roll(kernel, (-(kernel_size // 2), -(kernel_size // 2)), (0, 1))
    convolved = fft.irfft2(fft.rfft2(padded) * fft.rfft2(kernel), s=padded.shape)
    return (convolved[:npix, :npix] + residual).astype(np.float32)


def local_rms(image: np.ndarray, box_pixels: int) -> np.ndarray:
    """Map of the noise: robust rms in boxes that overlap by half, joined bilinearly.

    Parameters
    ----------
    image : ndarray, shape (npix, npix)
        A residual, or an image whose sources fill little of a box.
    box_pixels : int

    Returns
    -------
    ndarray of float32, shape (npix, npix)
    """
    npix = image.shape[0]
    half = max(1, min(box_pixels, npix) // 2)
    centres = np.unique(np.clip(np.arange(half, npix + half, half), half, npix - half))
    boxes = np.array(
        [
            [robust_rms(image[y - half : y + half, x - half : x + half]) for x in centres]
            for y in centres
        ]
    )
    if centres.size == 1:
        return np.full(image.shape, boxes[0, 0], np.float32)
    interpolator = interpolate.RegularGridInterpolator((centres, centres), boxes)
    at = np.clip(np.arange(npix), centres[0], centres[-1])
    return np.asarray(interpolator(tuple(np.meshgrid(at, at, indexing="ij"))), np.float32)
