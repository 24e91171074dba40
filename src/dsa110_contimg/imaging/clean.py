"""CLEAN with major cycles: radler deconvolves, ducc0 predicts and grids.

Radler is WSClean's deconvolution library (Offringa et al. 2014, MNRAS 444, 606; Offringa and
Smirnov 2017, MNRAS 471, 301). It keeps pointers to the arrays it is given: every array
below lives until the last cycle is over.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import radler
from astropy.io import fits

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging import components, gridding
from dsa110_contimg.imaging.options import CleanOptions
from dsa110_contimg.imaging.restore import RestoringBeam, fit_beam
from dsa110_contimg.imaging.weighting import noise_variance
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.visibilities.averaging import Samples

_CYCLE_FACTOR = 0.6
_GRIDDING_ERROR = 0.3
_ACCURACIES = 1e-6, 1e-3
"""What gridding may add to an image, in thermal noises, and the limits of its relative error."""
_FIT_PIXELS = 256
_FEW_COMPONENTS = 200
"""Up to so many, their sum takes less time than gridding."""


@dataclass(frozen=True, eq=False)
class CleanResult:
    """What CLEAN leaves, the mean over bands with their weights.

    Attributes
    ----------
    model : ndarray of float32, shape (npix, npix)
        Components, Jy per pixel.
    residual, psf : ndarray of float32, shape (npix, npix)
        Jy per beam.
    beam : RestoringBeam
        Of the psf.
    thermal_jy : float
        Noise by the weights of the samples.
    n_iterations, n_major : int
    """

    model: np.ndarray
    residual: np.ndarray
    psf: np.ndarray
    beam: RestoringBeam
    thermal_jy: float
    n_iterations: int
    n_major: int


def clean(
    samples: Samples, weights: np.ndarray, npix: int, cell_rad: float, options: CleanOptions
) -> CleanResult:
    """Image samples and deconvolve.

    Parameters
    ----------
    samples : Samples
    weights : ndarray of float32, shape (nsample,)
        Imaging weights.
    npix : int
    cell_rad : float
    options : CleanOptions

    Raises
    ------
    ImagingError
        If nothing is left to image, or CLEAN diverged.
    """
    if not (weights > 0).any():
        raise ImagingError("every visibility is flagged: nothing to image")
    grid = _Grid(npix, cell_rad, options.threads)
    bands = _bands(samples, weights, options.bands)
    psf = np.stack([grid.psf(band) for band in bands])
    residual = np.stack([grid.dirty(band, band.samples.values) for band in bands])
    model = np.zeros_like(residual)
    share = np.array([band.weights.sum(dtype=float) for band in bands])
    share /= share.sum()
    beam = fitted_beam(samples, weights, cell_rad, options.threads)
    variances = [noise_variance(band.samples.weights, band.weights) for band in bands]
    thermal_jy = float(np.sqrt(share**2 @ variances))
    n_iterations = n_major = 0
    if options.niter > 0:
        n_iterations, n_major = _major_cycles(
            bands, share, grid, psf, residual, model, beam, thermal_jy, options
        )
    model, residual, psf = (
        np.einsum("b,bij->ij", share.astype(np.float32), cube) for cube in (model, residual, psf)
    )
    return CleanResult(model, residual, psf, beam, thermal_jy, n_iterations, n_major)


@dataclass(frozen=True, eq=False)
class _Band:
    """Samples of a part of the frequencies, with their imaging weights."""

    samples: Samples
    weights: np.ndarray
    first_hz: float
    last_hz: float


def _bands(samples: Samples, weights: np.ndarray, count: int) -> list[_Band]:
    """Parts of the band, equally wide; those without data are left out."""
    low, high = float(samples.frequency_hz.min()), float(samples.frequency_hz.max())
    if count == 1:
        return [_Band(samples, weights, low, high)]
    edges = np.linspace(low, high, count + 1)
    which = np.clip(np.searchsorted(edges, samples.frequency_hz, side="right") - 1, 0, count - 1)
    bands = []
    for number in range(count):
        some = np.flatnonzero((which == number) & (weights > 0))
        if some.size:
            bands.append(
                _Band(samples.select(some), weights[some], edges[number], edges[number + 1])
            )
    return bands


@dataclass(frozen=True)
class _Grid:
    """Pixels, and the threads that fill them."""

    npix: int
    cell_rad: float
    threads: int

    def psf(self, band: _Band) -> np.ndarray:
        """One point spread function for the whole field, as if there were no w-terms."""
        ones = np.ones(band.weights.size, np.complex64)
        return gridding.dirty_image(
            band.samples, ones, band.weights, self.npix, self.cell_rad, self.threads, w_terms=False
        )

    def dirty(
        self, band: _Band, values: np.ndarray, accuracy: float = gridding.ACCURACY
    ) -> np.ndarray:
        """Image of values at a band's samples."""
        return gridding.dirty_image(
            band.samples,
            values,
            band.weights,
            self.npix,
            self.cell_rad,
            self.threads,
            accuracy=accuracy,
        )

    def values(self, band: _Band, model: np.ndarray, accuracy: float) -> np.ndarray:
        """Samples of components, in the cheaper of two ways."""
        rows, columns = np.nonzero(model)
        if rows.size > _FEW_COMPONENTS:
            return gridding.model_values(band.samples, model, self.cell_rad, self.threads, accuracy)
        half = self.npix // 2
        l, m = (half - columns) * self.cell_rad, (rows - half) * self.cell_rad
        lmn = np.column_stack([l, m, np.sqrt(1 - l * l - m * m)])
        return components.pixel_values(band.samples, lmn, model[rows, columns])


def _major_cycles(
    bands: list[_Band],
    share: np.ndarray,
    grid: _Grid,
    psf: np.ndarray,
    residual: np.ndarray,
    model: np.ndarray,
    beam: RestoringBeam,
    noise_jy: float,
    options: CleanOptions,
) -> tuple[int, int]:
    """CLEAN `residual` into `model`, shape (nband, npix, npix); minor and major cycles made."""
    dirty_peak = float(np.abs(residual).max())
    accuracy = float(np.clip(_GRIDDING_ERROR * noise_jy / dirty_peak, *_ACCURACIES))
    settings = _settings(np.einsum("b,bij->ij", share, psf), beam, grid, options)
    left, predicted = [band.samples.values.copy() for band in bands], np.zeros_like(model)
    n_major = n_iterations = 0
    lowest = np.inf
    with tempfile.TemporaryDirectory() as folder:
        # Radler's own automatic mask is that of the first cycle's components for ever: here the
        # mask is made when everything above the first level is found.
        for sigma, masked in (
            (options.auto_mask_sigma, False),
            (options.auto_threshold_sigma, True),
        ):
            settings.auto_threshold_sigma = sigma
            settings.minor_iteration_count = options.niter - n_iterations
            if masked:
                settings.fits_mask = str(Path(folder) / "mask.fits")
                mask = (model != 0).any(axis=0).astype(np.float32)
                fits.writeto(settings.fits_mask, mask[None, None])
            engine = _engine(settings, psf, residual, model, beam, bands, share)
            more, cycle = bool(model.any()) or not masked, 0
            while more and n_major < options.max_major and n_iterations < options.niter:
                with _quiet():
                    more = engine.perform(cycle)
                cycle, n_major = cycle + 1, n_major + 1
                for b, band in enumerate(bands):
                    left[b] -= grid.values(band, model[b] - predicted[b], accuracy)
                    residual[b] = grid.dirty(band, left[b], accuracy)
                predicted[:] = model
                peak = float(np.abs(residual).max())
                rms = robust_rms(residual)
                lowest = min(lowest, rms)
                # Components that feed on their sidelobes raise the noise before they raise the
                # peak of a dirty image with a bright source.
                if not np.isfinite(peak) or peak > 2 * dirty_peak or rms > 2 * lowest:
                    raise ImagingError(
                        f"CLEAN diverged in major cycle {n_major}: the residual has a peak of "
                        f"{peak:.3g} Jy, the dirty image {dirty_peak:.3g} Jy, and a noise of "
                        f"{rms:.3g} Jy after {lowest:.3g} Jy; flag more data, lower --major-gain "
                        "or raise --auto-mask-sigma"
                    )
            n_iterations += int(engine.iteration_number)
            with _quiet():
                del engine
    return n_iterations, n_major


def _settings(
    psf: np.ndarray, beam: RestoringBeam, grid: _Grid, options: CleanOptions
) -> radler.Settings:
    settings = radler.Settings()
    settings.algorithm_type = (
        radler.AlgorithmType.multiscale
        if options.deconvolver == "multiscale"
        else radler.AlgorithmType.generic_clean
    )
    settings.trimmed_image_width = settings.trimmed_image_height = grid.npix
    settings.pixel_scale.x = settings.pixel_scale.y = grid.cell_rad
    settings.major_iteration_count = options.max_major
    settings.major_loop_gain = safe_major_gain(psf, beam, grid.cell_rad, options.major_gain)
    settings.thread_count = options.threads
    if options.local_rms:
        settings.local_rms.method = radler.LocalRmsMethod.rms_window
    settings.spectral_fitting.terms = options.spectral_terms
    return settings


def _engine(
    settings: radler.Settings,
    psf: np.ndarray,
    residual: np.ndarray,
    model: np.ndarray,
    beam: RestoringBeam,
    bands: list[_Band],
    share: np.ndarray,
) -> radler.Radler:
    if len(bands) == 1:
        return radler.Radler(settings, psf[0], residual[0], model[0], beam.major_rad)
    settings.channels_out = len(bands)
    settings.spectral_fitting.mode = radler.SpectralFittingMode.polynomial
    return radler.Radler(
        settings,
        psf,
        residual,
        model,
        beam.major_rad,
        len(bands),
        np.array([[band.first_hz, band.last_hz] for band in bands]),
        share,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what C++ prints of each minor cycle to nowhere: it ignores Python's stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        # What C++ still holds in its buffer belongs to nowhere too.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


def safe_major_gain(psf: np.ndarray, beam: RestoringBeam, cell_rad: float, wanted: float) -> float:
    """Major gain that stops a cycle above the sidelobes of the peak it began with.

    Components cleaned out of sidelobes feed on each other and diverge; CASA's tclean stops at the
    same level (its `cyclefactor`).
    """
    half = psf.shape[0] // 2
    lobe = beam.image(psf.shape[0], cell_rad)
    sidelobe = float(np.abs(psf - lobe)[half // 2 : -half // 2, half // 2 : -half // 2].max())
    return float(np.clip(1 - _CYCLE_FACTOR * sidelobe, 0.1, wanted))


def fitted_beam(
    samples: Samples, weights: np.ndarray, cell_rad: float, threads: int
) -> RestoringBeam:
    """Restoring beam of an image with these cells, fitted to twice as fine a psf.

    Where the main lobe has a narrow core, a coarsely sampled fit would jump with the pixels that
    happen to be in it.
    """
    ones = np.ones(weights.size, np.complex64)
    psf = gridding.dirty_image(
        samples, ones, weights, _FIT_PIXELS, 0.5 * cell_rad, threads, w_terms=False
    )
    return fit_beam(psf, 0.5 * cell_rad)
