"""Measure the primary beam on the flux densities of a mosaic that was corrected for another one.

A mosaic of tiles t weighted by the square of the response R that was assumed shows a source of flux
density S with ``S sum_t(R_t B_t) / sum_t(R_t**2)``, where B is the beam that the telescope has. The
ratios to a catalogue over declination therefore tell where the beam points and how wide it is. In
right ascension the tiles overlap and hide an offset.
"""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.calibration.beam import DriftingSources, measure_beam
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.constants import DAY_S, UNIX_EPOCH_JD
from dsa110_contimg.robust import cauchy_weights, robust_rms
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import NOMINAL_BEAM, BeamShape
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import beam_axis
from dsa110_contimg.telescope import Telescope
from dsa110_contimg.visibilities.phasing import drift_geometry

_CATALOGUE_ERROR = 0.1
"""Relative error of a flux ratio from catalogue and measurement, in addition to the noise."""
_MIN_RESPONSE = 0.1
_MIN_SNR, _MIN_FOR_TREND, _ROUNDS = 10.0, 6, 30
_PARTS_OF_TILE = 4


@dataclass(frozen=True, eq=False)
class MosaicPhotometry:
    """Flux densities measured on a mosaic.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray, shape (nsource,)
        ICRS.
    catalogue_jy, measured_jy, error_jy : ndarray, shape (nsource,)
    """

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    catalogue_jy: np.ndarray
    measured_jy: np.ndarray
    error_jy: np.ndarray

    @property
    def directions(self) -> np.ndarray:
        """ICRS unit vectors, shape (nsource, 3)."""
        return astrometry.radec_to_vector(np.deg2rad(self.ra_deg), np.deg2rad(self.dec_deg))


def drift_scan_pointings(
    start_s: float, n_tiles: int, apparent_dec_deg: float, telescope: Telescope
) -> np.ndarray:
    """Dish axes while consecutive tiles were observed, ICRS.

    Parameters
    ----------
    start_s : float
        When the first tile began, Unix seconds.
    n_tiles : int
    apparent_dec_deg : float
    telescope : Telescope

    Returns
    -------
    ndarray, shape (n_tiles, npart, 3)
        At evenly spaced times of each tile.
    """
    count = n_tiles * _PARTS_OF_TILE
    part_s = telescope.tile_length_s / _PARTS_OF_TILE
    jd = UNIX_EPOCH_JD + (start_s + (np.arange(count) + 0.5) * part_s) / DAY_S
    scan = drift_geometry(jd, np.deg2rad(apparent_dec_deg), astrometry.Site.of(telescope))
    return scan.pointings.reshape(n_tiles, _PARTS_OF_TILE, 3)


def measure_beam_on_mosaic(
    photometry: MosaicPhotometry,
    pointings: np.ndarray,
    frequencies_hz: np.ndarray,
    telescope: Telescope,
) -> tuple[BeamMeasurement, np.ndarray]:
    """Fit width and pointing of the beam to the flux densities of a mosaic.

    Parameters
    ----------
    photometry : MosaicPhotometry
    pointings : ndarray, shape (ntile, npart, 3)
        As of `drift_scan_pointings`.
    frequencies_hz : ndarray, shape (nfreq,)
    telescope : Telescope

    Returns
    -------
    BeamMeasurement
        With no sources where too few are covered. The mosaic is taken to be corrected for the
        nominal beam of the telescope.
    ndarray, shape (nsource,)
        What measured flux densities are to be divided by; NaN where no tile covers a source.
    """
    model = SkyModel(
        photometry.directions,
        photometry.catalogue_jy,
        np.full(photometry.catalogue_jy.size, DEFAULT_SPECTRAL_INDEX),
        float(np.mean(frequencies_hz)),
    )
    every = pointings.reshape(-1, 3)

    def response(shape: BeamShape) -> np.ndarray:
        apparent = model.apparent_jy(
            beam_axis(every, shape), frequencies_hz, telescope.dish_diameter_m / shape.width
        )
        mean = apparent.mean(axis=2) / model.spectra_jy(frequencies_hz).mean(axis=1)
        return np.asarray(mean.reshape(*pointings.shape[:2], -1).mean(axis=1))

    assumed = response(NOMINAL_BEAM)
    weights = np.where(assumed >= _MIN_RESPONSE, assumed, 0.0)
    covered = weights.sum(axis=0) > 0
    usable = covered & (photometry.catalogue_jy > 0) & (photometry.measured_jy > 0)
    ratio = photometry.measured_jy / photometry.catalogue_jy
    error = photometry.error_jy / photometry.catalogue_jy
    drifting = DriftingSources(
        model.select(usable),
        np.full(np.count_nonzero(usable), _CATALOGUE_ERROR),
        np.zeros(len(every), np.int64),
        ratio[None, usable],
        error[None, usable],
        NOMINAL_BEAM,
        np.repeat(weights[:, usable], pointings.shape[1], axis=0),
    )
    found = measure_beam(drifting, every, frequencies_hz, telescope.dish_diameter_m)
    total = (weights * assumed).sum(axis=0)
    factor = (weights * response(found.shape)).sum(axis=0) / np.where(covered, total, 1.0)
    return found, np.where(covered, factor, np.nan)


def declination_trend(
    dec_deg: np.ndarray, ratio: np.ndarray, error: np.ndarray
) -> tuple[float, float]:
    """Slope of the logarithm of flux ratios over declination, per degree, and its error.

    Parameters
    ----------
    dec_deg : ndarray, shape (nsource,)
    ratio, error : ndarray, shape (nsource,)
        Measured over catalogue flux density; those below ten times their error take no part.
    """
    used = np.isfinite(ratio) & (ratio > _MIN_SNR * error)
    if np.count_nonzero(used) < _MIN_FOR_TREND:
        return float("nan"), float("nan")
    y = np.log(ratio[used])
    sigma = np.hypot(error[used] / ratio[used], _CATALOGUE_ERROR)
    design = np.column_stack([np.ones(y.size), dec_deg[used] - np.mean(dec_deg[used])])
    line = np.array([np.median(y), 0.0])
    covariance, excess = np.eye(2), 1.0
    for _ in range(_ROUNDS):
        residual = y - design @ line
        excess = max(1.0, robust_rms(residual / sigma))
        weight = cauchy_weights(residual / (excess * sigma)) / (excess * sigma) ** 2
        covariance = np.linalg.inv((design * weight[:, None]).T @ design)
        line = covariance @ (design.T @ (weight * y))
    return float(line[1]), float(np.sqrt(covariance[1, 1]))
