"""Samples to image and back with the w-gridder of ducc0 (Arras et al. 2021, A&A 646, A58).

Images are in FITS order: rows north, columns towards decreasing right ascension, the phase
centre at pixel (npix // 2, npix // 2).
"""

import ducc0
import numpy as np

from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities.averaging import Samples

ACCURACY = 1e-4
"""Relative error of a gridded image."""
_FREQUENCY = np.array([SPEED_OF_LIGHT_M_S])
"""Makes metres of the gridder into wavelengths."""


def dirty_image(
    samples: Samples,
    values: np.ndarray,
    weights: np.ndarray,
    npix: int,
    cell_rad: float,
    threads: int = 1,
    w_terms: bool = True,
    accuracy: float = ACCURACY,
) -> np.ndarray:
    """Weighted mean of ``values exp(-2 pi i (u l + v m + w (n - 1)))``.

    A point source of flux density S appears with peak S.

    Parameters
    ----------
    samples : Samples
        Coordinates.
    values : ndarray of complex64, shape (nsample,)
    weights : ndarray of float32, shape (nsample,)
    npix : int
    cell_rad : float
    threads : int
        More than one gives results that differ in the last bits from run to run.
    w_terms : bool
        False leaves them out, which is right near the phase centre and four times faster.
    accuracy : float
        Relative error of the image.

    Returns
    -------
    ndarray of float32, shape (npix, npix)
    """
    image = ducc0.wgridder.vis2dirty(
        uvw=samples.uvw_lambda,
        freq=_FREQUENCY,
        vis=values.reshape(-1, 1),
        wgt=weights.reshape(-1, 1),
        npix_x=npix,
        npix_y=npix,
        pixsize_x=cell_rad,
        pixsize_y=cell_rad,
        epsilon=accuracy,
        do_wgridding=w_terms,
        divide_by_n=False,
        nthreads=threads,
        **_SIGNS,
    )
    return np.ascontiguousarray(image.T) / np.float32(np.sum(weights, dtype=float))


def model_values(
    samples: Samples,
    image: np.ndarray,
    cell_rad: float,
    threads: int = 1,
    accuracy: float = ACCURACY,
) -> np.ndarray:
    """Samples that an image of point sources (Jy per pixel) would give.

    Returns
    -------
    ndarray of complex64, shape (nsample,)
    """
    return model_visibilities(
        samples.uvw_lambda, _FREQUENCY, image, cell_rad, threads, accuracy
    ).reshape(-1)


def model_visibilities(
    uvw_m: np.ndarray,
    frequencies_hz: np.ndarray,
    image: np.ndarray,
    cell_rad: float,
    threads: int = 1,
    accuracy: float = ACCURACY,
) -> np.ndarray:
    """Visibilities, shape (nrow, nchan), that an image of point sources (Jy per pixel) would give.

    Parameters
    ----------
    uvw_m : ndarray, shape (nrow, 3)
    frequencies_hz : ndarray, shape (nchan,)
    image : ndarray, shape (npix, npix)
    cell_rad : float
    threads : int
    accuracy : float
        Relative error.
    """
    values = ducc0.wgridder.dirty2vis(
        uvw=uvw_m,
        freq=frequencies_hz,
        dirty=np.ascontiguousarray(image.T, dtype=np.float32),
        pixsize_x=cell_rad,
        pixsize_y=cell_rad,
        epsilon=accuracy,
        do_wgridding=True,
        divide_by_n=False,
        nthreads=threads,
        **_SIGNS,
    )
    return np.asarray(values)


_SIGNS = {"flip_u": False, "flip_v": True, "flip_w": False}
