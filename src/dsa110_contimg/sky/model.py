"""The sky that calibration compares with: sources times the drifting beam."""

from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.sky import astrometry, flux_scale, primary_beam
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX, Catalogue
from dsa110_contimg.sky.shapes import POINTS, Shapes


@dataclass(frozen=True, eq=False)
class SkyModel:
    """Points and Gaussians with power-law spectra.

    Attributes
    ----------
    directions : ndarray, shape (nsource, 3)
        ICRS unit vectors.
    flux_jy : ndarray, shape (nsource,)
        At `reference_hz`.
    spectral_index : ndarray, shape (nsource,)
    reference_hz : float
    shapes : Shapes
    """

    directions: np.ndarray
    flux_jy: np.ndarray
    spectral_index: np.ndarray
    reference_hz: float
    shapes: Shapes = POINTS

    def __len__(self) -> int:
        return self.flux_jy.size

    def select(self, index: np.ndarray) -> "SkyModel":
        """The sources of an index or mask."""
        return replace(
            self,
            directions=self.directions[index],
            flux_jy=self.flux_jy[index],
            spectral_index=self.spectral_index[index],
            shapes=self.shapes.select(index),
        )

    def spectra_jy(self, frequencies_hz: np.ndarray) -> np.ndarray:
        """Flux densities, shape (nsource, nfreq)."""
        ratio = np.asarray(frequencies_hz) / self.reference_hz
        return self.flux_jy[:, None] * ratio[None, :] ** self.spectral_index[:, None]

    def apparent_jy(
        self, pointings: np.ndarray, frequencies_hz: np.ndarray, dish_m: float
    ) -> np.ndarray:
        """Flux densities through the beam, shape (ntime, nsource, nfreq).

        Parameters
        ----------
        pointings : ndarray, shape (ntime, 3)
            Dish axis at each integration, ICRS.
        frequencies_hz : ndarray, shape (nfreq,)
        dish_m : float
        """
        cos_theta = np.clip(pointings @ self.directions.T, -1, 1)
        sin_theta = np.sqrt(1 - cos_theta**2)
        beam = primary_beam.power_response(
            sin_theta[:, :, None], np.asarray(frequencies_hz)[None, None, :], dish_m
        )
        beam[cos_theta <= 0] = 0
        return beam * self.spectra_jy(frequencies_hz)[None]


def from_catalogue(catalogue: Catalogue, reference_hz: float, year: float) -> SkyModel:
    """Sky model of catalogue sources; primary calibrators by their measured spectra.

    Parameters
    ----------
    catalogue : Catalogue
        Flux densities at its own frequency, scaled with the median spectral index.
    reference_hz : float
    year : float
        Date of the data, for calibrators that vary.
    """
    directions = astrometry.radec_to_vector(
        np.deg2rad(catalogue.ra_deg), np.deg2rad(catalogue.dec_deg)
    )
    index = np.full(len(catalogue), DEFAULT_SPECTRAL_INDEX)
    flux = catalogue.flux_jy * (reference_hz / catalogue.frequency_hz) ** index
    for calibrator in flux_scale.CALIBRATORS:
        near = np.flatnonzero(directions @ calibrator.direction() > np.cos(flux_scale.MATCH_RAD))
        if near.size:
            here, above = calibrator.flux_density_jy(
                np.array([reference_hz, 1.01 * reference_hz]), year
            )
            flux[near[0]] = here
            index[near[0]] = np.log(above / here) / np.log(1.01)
            flux[near[1:]] = 0
    return SkyModel(directions, flux, index, reference_hz, catalogue.shapes)


def in_beam(
    catalogue: Catalogue,
    pointings: np.ndarray,
    reference_hz: float,
    dish_m: float,
    year: float,
    radius_deg: float,
    min_apparent_jy: float,
) -> SkyModel:
    """Sky model of the sources that the beam sees during a tile.

    Parameters
    ----------
    catalogue : Catalogue
    pointings : ndarray, shape (ntime, 3)
    reference_hz, dish_m, year : float
    radius_deg : float
        From the middle pointing.
    min_apparent_jy : float
        Least apparent flux density, at its largest during the tile.
    """
    ra, dec = astrometry.vector_to_radec(pointings[len(pointings) // 2])
    near = catalogue.cone(float(np.rad2deg(ra)), float(np.rad2deg(dec)), radius_deg)
    model = from_catalogue(near, reference_hz, year)
    apparent = model.apparent_jy(pointings, np.array([reference_hz]), dish_m)[:, :, 0]
    return model.select(apparent.max(axis=0, initial=0.0) >= min_apparent_jy)
