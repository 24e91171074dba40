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
from dsa110_contimg.imaging.restore import RestoringBeam, fit_beam
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
    """What CLEAN leaves.

    Attributes
    ----------
    model : ndarray of float32, shape (npix, npix)
        Components, Jy per pixel.
    residual, psf : ndarray of float32, shape (npix, npix)
        Jy per beam.
    beam : RestoringBeam
        Of the psf.
    n_iterations, n_major : int
    """

    model: np.ndarray
    residual: np.ndarray
    psf: np.ndarray
    beam: RestoringBeam
    n_iterations: int
    n_major: int


def clean(
    samples: Samples,
    weights: np.ndarray,
    npix: int,
    cell_rad: float,
    *,
    niter: int,
    auto_mask_sigma: float,
    auto_threshold_sigma: float,
    major_gain: float,
    max_major: int,
    threads: int,
    multiscale: bool = False,
) -> CleanResult:
    """Image samples and deconvolve.

    Parameters
    ----------
    samples : Samples
    weights : ndarray of float32, shape (nsample,)
        Imaging weights.
    npix : int
    cell_rad : float
    niter : int
        Most minor iterations; zero makes a dirty image.
    auto_mask_sigma, auto_threshold_sigma : float
        CLEAN freely down to the first, then inside the mask of components to the second.
    major_gain : float
        Fraction of the peak taken off before the next major cycle.
    max_major : int
    threads : int
    multiscale : bool
        Clean with components of several sizes, for extended emission.

    Raises
    ------
    ImagingError
        If nothing is left to image, or CLEAN diverged.
    """
    used = weights > 0
    if not used.any():
        raise ImagingError("every visibility is flagged: nothing to image")
    ones = np.ones(weights.size, np.complex64)
    # CLEAN takes one psf for the whole field, as if there were no w-terms.
    psf = gridding.dirty_image(samples, ones, weights, npix, cell_rad, threads, w_terms=False)
    residual = gridding.dirty_image(samples, samples.values, weights, npix, cell_rad, threads)
    model = np.zeros_like(residual)
    beam = fitted_beam(samples, weights, cell_rad, threads)
    if niter == 0:
        return CleanResult(model, residual, psf, beam, 0, 0)

    dirty_peak = float(np.abs(residual).max())
    noise = np.sqrt(np.sum(weights[used].astype(float) ** 2 / samples.weights[used]))
    noise /= np.sum(weights, dtype=float)
    accuracy = float(np.clip(_GRIDDING_ERROR * noise / dirty_peak, *_ACCURACIES))
    settings = radler.Settings()
    settings.algorithm_type = (
        radler.AlgorithmType.multiscale if multiscale else radler.AlgorithmType.generic_clean
    )
    settings.trimmed_image_width = settings.trimmed_image_height = npix
    settings.pixel_scale.x = settings.pixel_scale.y = cell_rad
    settings.major_iteration_count = max_major
    settings.major_loop_gain = _safe_major_gain(psf, beam, cell_rad, major_gain)
    settings.thread_count = threads
    left, predicted = samples.values.copy(), np.zeros_like(model)
    n_major = n_iterations = 0
    with tempfile.TemporaryDirectory() as folder:
        # Radler's own automatic mask is that of the first cycle's components for ever: here the
        # mask is made when everything above the first level is found.
        for sigma, masked in ((auto_mask_sigma, False), (auto_threshold_sigma, True)):
            settings.auto_threshold_sigma = sigma
            settings.minor_iteration_count = niter - n_iterations
            if masked:
                settings.fits_mask = str(Path(folder) / "mask.fits")
                fits.writeto(settings.fits_mask, (model != 0).astype(np.float32)[None, None])
            engine = radler.Radler(settings, psf, residual, model, beam.major_rad)
            more, cycle = bool(model.any()) or not masked, 0
            while more and n_major < max_major and n_iterations < niter:
                with _quiet():
                    more = engine.perform(cycle)
                cycle, n_major = cycle + 1, n_major + 1
                left -= _model_values(samples, model - predicted, cell_rad, threads, accuracy)
                predicted[:] = model
                residual[:] = gridding.dirty_image(
                    samples, left, weights, npix, cell_rad, threads, accuracy=accuracy
                )
                if not np.isfinite(residual).all() or np.abs(residual).max() > 2 * dirty_peak:
                    raise ImagingError(
                        f"CLEAN diverged in major cycle {n_major}: residual peak "
                        f"{np.abs(residual).max():.3g} Jy against {dirty_peak:.3g} Jy in the dirty "
                        "image; flag more data, lower --major-gain or raise --auto-mask"
                    )
            n_iterations += int(engine.iteration_number)
            with _quiet():
                del engine
    return CleanResult(model, residual, psf, beam, n_iterations, n_major)


def _model_values(
    samples: Samples, model: np.ndarray, cell_rad: float, threads: int, accuracy: float
) -> np.ndarray:
    """Samples of new components, in the cheaper of two ways."""
    rows, columns = np.nonzero(model)
    if rows.size > _FEW_COMPONENTS:
        return gridding.model_values(samples, model, cell_rad, threads, accuracy)
    half = model.shape[0] // 2
    l, m = (half - columns) * cell_rad, (rows - half) * cell_rad
    lmn = np.column_stack([l, m, np.sqrt(1 - l * l - m * m)])
    return components.pixel_values(samples, lmn, model[rows, columns])


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


def _safe_major_gain(psf: np.ndarray, beam: RestoringBeam, cell_rad: float, wanted: float) -> float:
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
