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

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.sky_image import SkyImage, beam_on_pixels, scales_rad

_ANY_HZ = 1.4e9


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


def find_sources(path: Path, image: SkyImage, threshold_sigma: float) -> SourceList:
    """Fit Gaussians to islands above the local noise.

    PyBDSF sees plain square pixels; positions, their errors and the solid angle of the pixels are
    those of the image's own coordinates, whatever they are.

    Parameters
    ----------
    path : Path
        Of the image, for what is said of it.
    image : SkyImage
        With its beam.
    threshold_sigma : float
        Minimum peak over local rms; islands are followed down to two thirds of it.

    Returns
    -------
    SourceList
        In order of decreasing flux density.

    Raises
    ------
    BadInputError
        If it has no observed pixel, or PyBDSF cannot work on it.
    """
    if not np.isfinite(image.pixels).any():
        raise BadInputError(f"{path}: holds no observed pixel, only blank ones")
    with tempfile.TemporaryDirectory() as scratch:
        # PyBDSF writes its log beside the image, and prints; both go where nobody looks.
        plain = Path(scratch) / "image.fits"
        _write_plain(plain, image)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            _earlier_objects_frozen(),
        ):
            warnings.simplefilter("ignore")
            try:
                found = _fit(plain, scratch, threshold_sigma)
            except RuntimeError as error:
                said = " ".join(str(error).split())
                raise BadInputError(f"{path}: PyBDSF finds no sources in it ({said})") from error
            # PyBDSF leaves the image open until its objects are collected.
            gc.collect()
    return _on_the_sky(image, found)


def _write_plain(path: Path, image: SkyImage) -> None:
    """Write the pixels as a plate carree map along the equator, which is linear everywhere."""
    from astropy.io import fits

    if image.beam is None:
        raise ValueError("an image without a beam")
    cell_deg = np.rad2deg(image.cell_rad)
    ny, nx = image.pixels.shape
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---CAR", "DEC--CAR"
    header["CRVAL1"], header["CRVAL2"] = 180.0, 0.0
    header["CRPIX1"], header["CRPIX2"] = nx / 2, ny / 2
    header["CDELT1"], header["CDELT2"] = -cell_deg, cell_deg
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["RADESYS"] = "ICRS"
    middle = scales_rad(image, np.array([nx / 2]), np.array([ny / 2]))[0]
    beam = beam_on_pixels(image, image.beam, middle)
    header["BMAJ"], header["BMIN"] = np.rad2deg(beam.major_rad), np.rad2deg(beam.minor_rad)
    header["BPA"] = np.rad2deg(beam.position_angle_rad)
    header["BUNIT"] = "Jy/beam"
    fits.PrimaryHDU(image.pixels, header).writeto(path)


def _on_the_sky(image: SkyImage, found: "_Fitted") -> SourceList:
    """Sources with their positions and the solid angle of the pixels there."""
    ra_deg, dec_deg = image.sky(found.x, found.y) if found.x.size else (found.x, found.y)
    scales = scales_rad(image, found.x, found.y)
    errors_arcsec = (
        np.sqrt(
            np.einsum(
                "nij,nj->ni", scales**2, np.stack([found.x_error, found.y_error], axis=1) ** 2
            )
        )
        / ARCSEC_RAD
    )
    # Jy per beam are of a beam on the sky, but in the plane of an interferometer's own image.
    share = np.abs(np.linalg.det(scales)) / image.cell_rad**2
    if str(image.wcs.wcs.ctype[0]).endswith("SIN"):
        share[:] = 1.0
    return SourceList(
        ra_deg % 360,
        dec_deg,
        errors_arcsec[:, 0],
        errors_arcsec[:, 1],
        found.peak_jy,
        found.peak_error_jy,
        share * found.flux_jy,
        share * found.flux_error_jy,
    )


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What PyBDSF finds, in pixels; each of shape (nsource,)."""

    x: np.ndarray
    y: np.ndarray
    x_error: np.ndarray
    y_error: np.ndarray
    peak_jy: np.ndarray
    peak_error_jy: np.ndarray
    flux_jy: np.ndarray
    flux_error_jy: np.ndarray


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


def _fit(path: Path, scratch: str, threshold_sigma: float) -> _Fitted:
    import bdsf
    from astropy.io import fits
    from astropy.wcs import WCS
    from bdsf import multi_proc

    # PyBDSF forks helpers even for one core, which would take more than this process's slot.
    multi_proc.parallel_map = _serial_map
    # By default it drops a Gaussian that reaches beyond its island, which noise and sidelobes make
    # small: every eighth source of ten sigma on a crowded sky.
    found = bdsf.process_image(
        str(path),
        thresh_isl=threshold_sigma * 2 / 3,
        thresh_pix=threshold_sigma,
        # It has no part in what is read of the result.
        frequency=_ANY_HZ,
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
            *s.posn_sky_centroidE,
            s.peak_flux_max,
            s.peak_flux_maxE,
            s.total_flux,
            s.total_fluxE,
        )
        for s in sorted(found.sources, key=lambda s: -s.total_flux)
    ]
    columns = np.array(rows, float).reshape(-1, 8).T
    header = fits.getheader(path)
    cell_deg = header["CDELT2"]
    x, y = WCS(header).all_world2pix(*columns[:2], 0) if len(rows) else columns[:2]
    return _Fitted(x, y, *(columns[2:4] / cell_deg), *columns[4:])
