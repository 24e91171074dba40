"""What goes into the image of a tile, and what comes out."""

from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.imaging.clean import CleanOptions
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.imaging.weighting import Weighting
from dsa110_contimg.sky.model import SkyModel


@dataclass(frozen=True)
class TileImageOptions:
    """How to image; see `stages.imaging.ImagingOptions` for meanings and units."""

    size: int
    cell_rad: float | None
    scheme: Weighting
    robust: float | None
    """None for what `weighting.best_robust` finds."""
    uv_min_lambda: float
    averaging_loss: float
    clean: CleanOptions
    uv_max_lambda: float = float("inf")
    taper_rad: float = 0.0
    exact_cell: bool = False
    """Keep `cell_rad` even where it is too coarse for the beam."""

    def as_imaged(self, image: "TileImage") -> "TileImageOptions":
        """Options for another image of the same geometry."""
        return replace(
            self,
            size=image.apparent.shape[0],
            cell_rad=image.cell_rad,
            taper_rad=image.taper_rad,
            robust=image.robust,
            exact_cell=True,
        )


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
