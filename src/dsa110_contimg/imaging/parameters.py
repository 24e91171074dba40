"""The images of a tile."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sky.model import SkyModel


@dataclass(frozen=True, eq=False)
class TileImage:
    """All images of one tile, shape (npix, npix), in FITS order.

    Attributes
    ----------
    apparent : ndarray
        Restored, Jy per beam, not beam-corrected.
    residual, psf : ndarray
        Jy per beam.
    model : ndarray
        Jy per pixel.
    primary_beam : ndarray
        Response with the weights that were imaged.
    cell_rad, taper_rad, robust, frequency_hz : float
    rms_jy, thermal_jy : float
        Noise before beam correction: measured on the residual, and by the weights of the data.
    expected_rms_jy : float
        The same by antennas, time, band and weighting; see `expected_noise`.
    beam : RestoringBeam
    n_iterations, n_major, n_samples, n_components, n_subtracted : int
        `n_components` counts sources fitted in the visibilities, which `model` does not hold;
        `n_subtracted` those outside the image that were taken off.
    averaging_loss : float
        What averaging took from a source in the middle of an edge of the image; `apparent` is
        corrected for it.
    remarks : tuple of str
        What differs from what was asked, and why.
    fitted : SkyModel or None
        Sources that were taken off the visibilities, with the flux densities that were fitted.
    """

    apparent: np.ndarray
    residual: np.ndarray
    model: np.ndarray
    psf: np.ndarray
    primary_beam: np.ndarray
    cell_rad: float
    taper_rad: float
    robust: float
    frequency_hz: float
    rms_jy: float
    thermal_jy: float
    expected_rms_jy: float
    beam: RestoringBeam
    n_iterations: int
    n_major: int
    n_samples: int
    n_components: int
    n_subtracted: int
    averaging_loss: float
    remarks: tuple[str, ...] = ()
    fitted: SkyModel | None = None

    def plane(self, pixels: np.ndarray, centre_rad: tuple[float, float], unit: str) -> Image:
        """One of the images with its place on the sky, ICRS."""
        middle = float(pixels.shape[0] // 2)
        return Image(
            pixels,
            centre_rad,
            (middle, middle),
            self.cell_rad,
            "SIN",
            self.beam,
            unit,
            self.frequency_hz,
        )
