"""A random but known sky over a strip."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX, Catalogue
from dsa110_contimg.sky.model import SkyModel

_CATALOGUE_HZ = 1.4e9


@dataclass(frozen=True, eq=False)
class KnownSky:
    """The truth, and what a catalogue says of it.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray, shape (nsource,)
    flux_jy, catalogue_jy : ndarray, shape (nsource,)
        At 1.4 GHz; they differ for sources that vary.
    """

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    catalogue_jy: np.ndarray

    def model(self) -> SkyModel:
        """The true sky."""
        directions = astrometry.radec_to_vector(np.deg2rad(self.ra_deg), np.deg2rad(self.dec_deg))
        index = np.full(self.flux_jy.size, DEFAULT_SPECTRAL_INDEX)
        return SkyModel(directions, self.flux_jy, index, _CATALOGUE_HZ)

    def catalogue(self, name: str) -> Catalogue:
        """What is published of it."""
        order = np.argsort(self.dec_deg, kind="stable")
        return Catalogue(
            name, _CATALOGUE_HZ, self.ra_deg[order], self.dec_deg[order], self.catalogue_jy[order]
        )


def random_sky(
    ra_range_deg: tuple[float, float],
    dec_deg: float,
    calibrator_ra_deg: float,
    rng: np.random.Generator,
    *,
    half_width_deg: float = 3.0,
    per_deg2: float = 2.0,
    faintest_jy: float = 0.05,
    calibrator_jy: float = 6.0,
    n_variable: int = 4,
) -> KnownSky:
    """Sources of Euclidean counts at least 3 arcmin apart, and one bright calibrator.

    Parameters
    ----------
    ra_range_deg : tuple of float
        First and last right ascension; the second may exceed 360.
    dec_deg : float
        Middle of the strip.
    calibrator_ra_deg : float
    rng : Generator
    half_width_deg : float
    per_deg2 : float
        Sources per square degree, about those of NVSS above 50 mJy.
    faintest_jy : float
    calibrator_jy : float
        Flux density of the brightest source, 0.2 degrees north of the strip's middle.
    n_variable : int
        Sources above 0.2 Jy whose true flux density is 0.6 to 1.6 of the catalogue's.
    """
    first, last = ra_range_deg
    area = (last - first) * np.cos(np.deg2rad(dec_deg)) * 2 * half_width_deg
    count = max(1, round(per_deg2 * area))
    ra = rng.uniform(first, last, count)
    dec = rng.uniform(dec_deg - half_width_deg, dec_deg + half_width_deg, count)
    flux = np.minimum(faintest_jy * rng.uniform(size=count) ** (-1 / 1.5), 2.0)
    ra = np.concatenate([[calibrator_ra_deg], ra])
    dec = np.concatenate([[dec_deg + 0.2], dec])
    flux = np.concatenate([[calibrator_jy], flux])
    vectors = astrometry.radec_to_vector(np.deg2rad(ra), np.deg2rad(dec))
    keep = [0]
    for i in range(1, ra.size):
        if astrometry.separation_rad(vectors[keep], vectors[i]).min() > np.deg2rad(0.05):
            keep.append(i)
    ra, dec, flux = ra[keep], dec[keep], flux[keep]
    catalogue = flux.copy()
    bright = np.flatnonzero((flux > 0.2) & (flux < 2.0))
    changed = rng.permutation(bright)[:n_variable]
    flux[changed] *= rng.uniform(0.6, 1.6, changed.size)
    return KnownSky(ra % 360, dec, flux, catalogue)
