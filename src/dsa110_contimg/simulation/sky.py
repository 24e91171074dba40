"""A random but known sky over a strip."""

from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX, Catalogue
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.shapes import POINTS, Shapes

_CATALOGUE_HZ = 1.4e9
_NVSS_PER_DEG2, _SLOPE = 50.0, -0.8
"""Sources above 2.5 mJy per square degree, and the slope of their integral counts."""


@dataclass(frozen=True, eq=False)
class KnownSky:
    """The truth, and what a catalogue says of it.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray, shape (nsource,)
    flux_jy, catalogue_jy : ndarray, shape (nsource,)
        At 1.4 GHz; they differ for sources that vary. What the catalogue does not list has zero
        there.
    shapes : Shapes
    """

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray
    catalogue_jy: np.ndarray
    shapes: Shapes = POINTS

    @property
    def resolved(self) -> np.ndarray:
        """True for sources that are no points, shape (nsource,)."""
        return self.shapes.each(self.flux_jy.size).major_rad > 0

    def model(self) -> SkyModel:
        """The true sky."""
        directions = astrometry.radec_to_vector(np.deg2rad(self.ra_deg), np.deg2rad(self.dec_deg))
        index = np.full(self.flux_jy.size, DEFAULT_SPECTRAL_INDEX)
        return SkyModel(directions, self.flux_jy, index, _CATALOGUE_HZ, self.shapes)

    def catalogue(self, name: str) -> Catalogue:
        """What is published of it."""
        order = np.argsort(self.dec_deg, kind="stable")
        order = order[self.catalogue_jy[order] > 0]
        return Catalogue(
            name,
            _CATALOGUE_HZ,
            self.ra_deg[order],
            self.dec_deg[order],
            self.catalogue_jy[order],
            self.shapes.select(order),
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


def with_extended(
    sky: KnownSky, count: int, largest_arcsec: float, rng: np.random.Generator
) -> KnownSky:
    """Make Gaussians of the strongest sources, apart from the calibrator.

    Their major axes are at least half of the largest, their minor axes at least half of the major.
    """
    strongest = np.argsort(-sky.flux_jy, kind="stable")[1 : count + 1]
    shapes = Shapes(*np.zeros((3, sky.flux_jy.size)))
    major = largest_arcsec * ARCSEC_RAD * rng.uniform(0.5, 1.0, strongest.size)
    shapes.major_rad[strongest] = major
    shapes.minor_rad[strongest] = major * rng.uniform(0.5, 1.0, strongest.size)
    shapes.angle_rad[strongest] = rng.uniform(0.0, np.pi, strongest.size)
    return replace(sky, shapes=shapes)


def with_faint(sky: KnownSky, faintest_jy: float, rng: np.random.Generator) -> KnownSky:
    """Add sources below those of the catalogue, over the same part of the sky.

    Fifty per square degree above 2.5 mJy, as NVSS found (Condon et al. 1998, AJ 115, 1693), with
    counts of the slope -0.8.
    """
    brightest_jy = float(sky.catalogue_jy.min())
    first, last = sky.ra_deg.min(), sky.ra_deg.max()
    if last - first > 180:  # the strip contains 0 h
        first, last = np.sort(np.mod(sky.ra_deg + 180, 360))[[0, -1]] - 180
    low, high = sky.dec_deg.min(), sky.dec_deg.max()
    area_deg2 = (last - first) * np.rad2deg(np.sin(np.deg2rad(high)) - np.sin(np.deg2rad(low)))
    counts = [_NVSS_PER_DEG2 * (s / 2.5e-3) ** _SLOPE for s in (faintest_jy, brightest_jy)]
    count = rng.poisson(area_deg2 * max(0.0, counts[0] - counts[1]))
    above = rng.uniform(counts[1], counts[0], count)
    flux = 2.5e-3 * (above / _NVSS_PER_DEG2) ** (1 / _SLOPE)
    ra = rng.uniform(first, last, count) % 360
    sines = rng.uniform(np.sin(np.deg2rad(low)), np.sin(np.deg2rad(high)), count)
    known, none = sky.shapes.each(sky.flux_jy.size), np.zeros(count)
    shapes = Shapes(
        np.append(known.major_rad, none),
        np.append(known.minor_rad, none),
        np.append(known.angle_rad, none),
    )
    return KnownSky(
        np.append(sky.ra_deg, ra),
        np.append(sky.dec_deg, np.rad2deg(np.arcsin(sines))),
        np.append(sky.flux_jy, flux),
        np.append(sky.catalogue_jy, none),
        shapes,
    )
