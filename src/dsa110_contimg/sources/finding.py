"""Find sources in an image with PyBDSF (Mohan and Rafferty 2015, ascl:1502.007)."""

import contextlib
import gc
import io
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class SourceList:
    """Sources found in an image.

    Attributes
    ----------
    ra_deg, dec_deg : ndarray, shape (nsource,)
    ra_error_arcsec, dec_error_arcsec : ndarray, shape (nsource,)
    peak_jy, peak_error_jy : ndarray, shape (nsource,)
        Jy per beam.
    flux_jy, flux_error_jy : ndarray, shape (nsource,)
        Integrated.
    """

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    ra_error_arcsec: np.ndarray
    dec_error_arcsec: np.ndarray
    peak_jy: np.ndarray
    peak_error_jy: np.ndarray
    flux_jy: np.ndarray
    flux_error_jy: np.ndarray

    def __len__(self) -> int:
        return self.ra_deg.size


def find_sources(path: Path, threshold_sigma: float, frequency_hz: float) -> SourceList:
    """Fit Gaussians to islands above the local noise.

    Parameters
    ----------
    path : Path
        FITS image with its beam in the header.
    threshold_sigma : float
        Least peak over local rms; islands are followed down to two thirds of it.
    frequency_hz : float

    Returns
    -------
    SourceList
        In order of decreasing flux density.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # PyBDSF writes its log beside the image, and prints; both go where nobody looks.
        link = Path(scratch) / path.name
        link.symlink_to(path.absolute())
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            _earlier_objects_frozen(),
        ):
            warnings.simplefilter("ignore")
            columns = _fit(link, scratch, threshold_sigma, frequency_hz)
            # PyBDSF leaves the image open until its objects are collected.
            gc.collect()
    columns[:, 0] %= 360
    return SourceList(*columns.T)


@contextlib.contextmanager
def _earlier_objects_frozen() -> Iterator[None]:
    """Keep the garbage collector from objects that are there already.

    PyBDSF collects garbage after each of its steps, which takes most of its time in a program that
    holds many objects.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _serial_map(
    function: Callable[[object], object], sequence: Iterable[object], *_: object, **__: object
) -> list[object]:
    return [function(item) for item in sequence]


def _fit(path: Path, scratch: str, threshold_sigma: float, frequency_hz: float) -> np.ndarray:
    """Columns of `SourceList`, shape (nsource, 8)."""
    import bdsf
    from bdsf import multi_proc

    # PyBDSF forks helpers even for one core, which would take more than this process's slot.
    multi_proc.parallel_map = _serial_map
    # By default it drops a Gaussian that reaches beyond its island, which noise and sidelobes make
    # small: every eighth source of ten sigma on a crowded sky.
    found = bdsf.process_image(
        str(path),
        thresh_isl=threshold_sigma * 2 / 3,
        thresh_pix=threshold_sigma,
        frequency=frequency_hz,
        quiet=True,
        ncores=1,
        debug=False,
        outdir=scratch,
        mean_map="zero",
        flag_maxsize_fwhm=0.15,
    )
    rows = [
        (
            *s.posn_sky_centroid,
            3600 * s.posn_sky_centroidE[0],
            3600 * s.posn_sky_centroidE[1],
            s.peak_flux_max,
            s.peak_flux_maxE,
            s.total_flux,
            s.total_fluxE,
        )
        for s in sorted(found.sources, key=lambda s: -s.total_flux)
    ]
    return np.array(rows, float).reshape(-1, 8)
