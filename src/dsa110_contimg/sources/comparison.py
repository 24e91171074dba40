"""Catalogue sources measured in an image."""

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.sky_image import SkyImage
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX, Catalogue
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.sources.source_check import STRONG_SIGMA, SourceCheck


def against_catalogue(
    image: SkyImage,
    noise: np.ndarray,
    frequency_hz: float,
    catalogue: Catalogue,
    min_flux_jy: float,
    isolation_rad: float,
    model_share: float,
) -> tuple[SourceCheck, ...]:
    """Measure the isolated catalogue sources on observed pixels.

    Parameters
    ----------
    image : SkyImage
        Corrected for the primary beam, Jy per beam, NaN where nothing was observed.
    noise : ndarray, shape of the image
        rms, Jy per beam.
    frequency_hz : float
        Of the image.
    catalogue : Catalogue
    min_flux_jy : float
        Faintest catalogue source used.
    isolation_rad : float
        Sources with a catalogue neighbour this near are left out.
    model_share : float
        The brightest sources that make up this share of the flux set the calibration, so they
        prove nothing: they are not `in_ratio`.
    """
    ny, nx = image.pixels.shape
    ra_deg, dec_deg = image.sky(np.array([nx / 2]), np.array([ny / 2]))
    radius_deg = np.rad2deg(np.hypot(nx, ny) / 2 * image.cell_rad) + 0.1
    near = catalogue.cone(float(ra_deg[0]), float(dec_deg[0]), float(radius_deg))
    alone = isolated(near.ra_deg, near.dec_deg, isolation_rad)
    index = np.flatnonzero(alone & (near.flux_jy >= min_flux_jy))
    measured = measure_at(image, noise, near.ra_deg[index], near.dec_deg[index])
    scaled = near.flux_jy[index] * (frequency_hz / near.frequency_hz) ** (DEFAULT_SPECTRAL_INDEX)
    per_peak = np.ones(index.size)
    if image.beam is not None:
        per_peak = 1 / image.beam.seen(near.shapes.select(index).each(index.size))[1]
    measured_jy, noise_jy = per_peak * measured.peak_jy, per_peak * measured.noise_jy
    seen = np.flatnonzero(measured.observed)
    order = seen[np.argsort(-scaled[seen])]
    bright = scaled[order]
    leading = np.zeros(scaled.size, bool)
    leading[order] = np.cumsum(bright) - bright < model_share * bright.sum()
    return tuple(
        SourceCheck(
            ra_deg=float(near.ra_deg[index[i]]),
            dec_deg=float(near.dec_deg[index[i]]),
            catalogue_jy=float(scaled[i]),
            measured_jy=float(measured_jy[i]),
            noise_jy=float(noise_jy[i]),
            east_arcsec=float(measured.offset_east_rad[i] / ARCSEC_RAD),
            north_arcsec=float(measured.offset_north_rad[i] / ARCSEC_RAD),
            in_ratio=bool(measured_jy[i] >= STRONG_SIGMA * noise_jy[i] and not leading[i]),
        )
        for i in seen
    )


def isolated(ra_deg: np.ndarray, dec_deg: np.ndarray, radius_rad: float) -> np.ndarray:
    """True where no other position of the list lies within a radius."""
    from scipy.spatial import KDTree

    if len(ra_deg) < 2:
        return np.ones(len(ra_deg), bool)
    vectors = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
    distance = np.asarray(KDTree(vectors).query(vectors, k=2)[0])
    return distance[:, 1] > 2 * np.sin(radius_rad / 2)
