"""How well a known sky comes back."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.components import add_components
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.sources.comparison import isolated
from dsa110_contimg.sources.photometry import measure_at


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Measurements of known sources against their truth.

    Attributes
    ----------
    ratio : ndarray, shape (nsource,)
        Measured over true flux density; NaN where the image has no pixels.
    east_arcsec, north_arcsec : ndarray, shape (nsource,)
        Measured minus true position.
    compared : ndarray of bool, shape (nsource,)
        Sources that the summaries are made of: observed, bright enough and alone.
    """

    ratio: np.ndarray
    east_arcsec: np.ndarray
    north_arcsec: np.ndarray
    compared: np.ndarray

    @property
    def median_ratio(self) -> float:
        """Median flux ratio of the compared sources."""
        return float(np.median(self.ratio[self.compared]))

    @property
    def scatter(self) -> float:
        """Robust standard deviation of the flux ratio (1.4826 median absolute deviations)."""
        return robust_rms(self.ratio[self.compared])

    @property
    def median_offset_arcsec(self) -> float:
        """Median position error."""
        offsets = np.hypot(self.east_arcsec[self.compared], self.north_arcsec[self.compared])
        return float(np.median(offsets))

    @property
    def mean_offset_arcsec(self) -> tuple[float, float]:
        """Mean position error to the east and to the north."""
        return (
            float(self.east_arcsec[self.compared].mean()),
            float(self.north_arcsec[self.compared].mean()),
        )

    def __str__(self) -> str:
        if not self.compared.any():
            return "no source to compare"
        east, north = self.mean_offset_arcsec
        return (
            f"{self.compared.sum()} sources: flux density / truth median {self.median_ratio:.3f}, "
            f"scatter {self.scatter:.3f}; position error median {self.median_offset_arcsec:.2f} "
            f"arcsec, mean {east:+.2f} east {north:+.2f} north"
        )


def against_truth(
    image: Image,
    noise: np.ndarray,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    flux_jy: np.ndarray,
    min_flux_jy: float,
    alone_arcmin: float = 2.0,
) -> Accuracy:
    """Measure an image at the places of a known sky.

    Parameters
    ----------
    image : Image
        Corrected for the primary beam, Jy per beam.
    noise : ndarray, shape of the image
        rms, Jy per beam.
    ra_deg, dec_deg, flux_jy : ndarray, shape (nsource,)
        The truth, compact sources.
    min_flux_jy : float
        Fainter ones are not compared.
    alone_arcmin : float
        Nor are those with a neighbour this near.
    """
    found = measure_at(image, noise, ra_deg, dec_deg)
    alone = isolated(ra_deg, dec_deg, np.deg2rad(alone_arcmin / 60))
    return Accuracy(
        ratio=found.peak_jy / flux_jy,
        east_arcsec=found.offset_east_rad / ARCSEC_RAD,
        north_arcsec=found.offset_north_rad / ARCSEC_RAD,
        compared=found.observed & alone & (flux_jy >= min_flux_jy),
    )


def noise_over_stated(
    image: Image,
    noise: np.ndarray,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    flux_jy: np.ndarray,
    shapes: Shapes = POINTS,
) -> float:
    """Scatter of an image without its true sources, in units of the stated noise.

    Parameters
    ----------
    image : Image
        Corrected for the primary beam, Jy per beam.
    noise : ndarray, shape of the image
        rms, Jy per beam.
    ra_deg, dec_deg, flux_jy : ndarray, shape (nsource,)
        All sources, faint ones too.
    shapes : Shapes

    Returns
    -------
    float
        Robust; 1 where the stated noise is right.
    """
    if image.beam is None:
        raise ValueError("an image without a restoring beam")
    x, y = image.pixel(ra_deg, dec_deg)
    ny, nx = image.pixels.shape
    near = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    middle, cell = ny // 2, image.cell_rad
    lmn = np.column_stack([middle - x, y - middle, np.ones(x.size)])[near] * cell
    rest = image.pixels.astype(float)
    add_components(rest, lmn, -flux_jy[near], shapes.each(x.size).select(near), image.beam, cell)
    scaled = rest / noise
    return robust_rms(scaled[np.isfinite(scaled)])
