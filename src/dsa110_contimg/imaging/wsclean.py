"""Images by the program WSClean, where it is installed, with our geometry and primary beam."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import ImagingError, RetryableError, UsageError
from dsa110_contimg.imaging import clean, gridding, weighting
from dsa110_contimg.imaging.expected_noise import expected_rms_jy
from dsa110_contimg.imaging.geometry import Geometry, choose_geometry
from dsa110_contimg.imaging.image_reader import read_map
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky import primary_beam
from dsa110_contimg.visibilities.data import Visibilities

_LAST_WORDS = 500


def image_with_wsclean(
    vis: Visibilities, ms_path: Path, column: str, options: TileImageOptions
) -> TileImage:
    """Image one tile with WSClean.

    Sources outside the image are not subtracted, and nothing is fitted in the visibilities.

    Parameters
    ----------
    vis : Visibilities
        What `ms_path` holds in `column`.
    ms_path : Path
    column : str
    options : TileImageOptions

    Raises
    ------
    UsageError
        If WSClean is not installed.
    ImagingError
        If it fails.
    """
    program = shutil.which("wsclean")
    if program is None:
        raise UsageError(
            "imager wsclean: the program is not installed; install it (Debian: wsclean), or take "
            "the built-in imager"
        )
    if vis.flags.all():
        raise ImagingError("every visibility is flagged: nothing to image")
    geometry = choose_geometry(vis, vis.flags, options)
    with tempfile.TemporaryDirectory(prefix="wsclean-") as folder:
        prefix = Path(folder) / "ws"
        arguments = [program, *_arguments(prefix, geometry, column, options), str(ms_path)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-_LAST_WORDS:]
            raise RetryableError(f"wsclean ended with status {done.returncode}: {said}")
        joined = "-MFS" if options.bands > 1 else ""
        found = {
            name: read_map(Path(f"{prefix}{joined}-{name}.fits"))
            for name in (
                ("image", "dirty", "psf") + (("residual", "model") if options.niter else ())
            )
        }
    restored = found["image"]
    residual = found.get("residual", found["dirty"]).pixels
    if restored.beam is None:
        raise ImagingError("wsclean could not fit a restoring beam")
    if not np.isfinite(restored.pixels).all():
        raise ImagingError(
            "wsclean's CLEAN diverged; flag more data, lower --major-gain or raise "
            "--auto-mask-sigma"
        )
    rough = geometry.rough
    return TileImage(
        apparent=restored.pixels,
        residual=residual,
        model=found["model"].pixels if options.niter else np.zeros_like(residual),
        psf=found["psf"].pixels,
        primary_beam=primary_beam.effective_beam(
            vis.beam_axis,
            geometry.bin_centres_hz,
            geometry.time_frequency_weights,
            vis.dish_m,
            vis.phase_centre_rad,
            geometry.size,
            geometry.cell_rad,
        ),
        cell_rad=geometry.cell_rad,
        taper_rad=geometry.taper_rad,
        robust=geometry.robust,
        frequency_hz=float(np.average(rough.frequency_hz, weights=rough.weights)),
        rms_jy=robust_rms(residual),
        thermal_jy=float("nan"),
        expected_rms_jy=expected_rms_jy(
            vis, vis.flags, rough.weights, _imaging_weights(geometry, options), options.sefd_jy
        ),
        beam=restored.beam,
        n_iterations=round(float(str(restored.header.get("WSCNITER", 0)))),
        n_major=round(float(str(restored.header.get("WSCMAJOR", 0)))),
        n_samples=round(float(str(restored.header.get("WSCNVIS", 0)))),
        n_components=0,
        n_subtracted=0,
        averaging_loss=0.0,
        remarks=(*geometry.remarks, "imaged by WSClean: sources outside are not subtracted"),
    )


def _imaging_weights(geometry: Geometry, options: TileImageOptions) -> np.ndarray:
    """Weights that WSClean gives roughly averaged samples."""
    return weighting.imaging_weights(
        geometry.rough.uvw_lambda,
        geometry.rough.weights,
        geometry.size,
        geometry.cell_rad,
        options.weighting,
        geometry.robust,
        geometry.taper_rad,
    )


def _arguments(
    prefix: Path, geometry: Geometry, column: str, options: TileImageOptions
) -> list[str]:
    arguments = [
        "-quiet",
        "-name",
        prefix,
        "-size",
        geometry.size,
        geometry.size,
        "-scale",
        f"{geometry.cell_rad / ARCSEC_RAD}asec",
        "-pol",
        "I",
        "-weight",
        options.weighting,
        *([geometry.robust] if options.weighting == "briggs" else []),
        "-niter",
        options.niter,
        "-mgain",
        _major_gain(geometry, options),
        "-nmiter",
        options.max_major,
        "-auto-mask",
        options.auto_mask_sigma,
        "-auto-threshold",
        options.auto_threshold_sigma,
        "-minuv-l",
        options.uv_min_lambda,
        "-data-column",
        column,
        "-j",
        options.threads,
        "-no-update-model-required",
    ]
    if options.uv_max_lambda is not None:
        arguments += ["-maxuv-l", options.uv_max_lambda]
    if geometry.taper_rad > 0:
        arguments += ["-taper-gaussian", f"{geometry.taper_rad / ARCSEC_RAD}asec"]
    if options.deconvolver == "multiscale":
        arguments += ["-multiscale"]
    if options.local_rms:
        arguments += ["-local-rms"]
    if options.bands > 1:
        arguments += [
            "-channels-out",
            options.bands,
            "-join-channels",
            "-fit-spectral-pol",
            options.spectral_terms,
        ]
    return [str(argument) for argument in arguments]


def _major_gain(geometry: Geometry, options: TileImageOptions) -> float:
    """Major gain with which WSClean does not clean sidelobes either."""
    rough, size, cell_rad = geometry.rough, geometry.size, geometry.cell_rad
    weights = _imaging_weights(geometry, options)
    ones, threads = np.ones(weights.size, np.complex64), options.threads
    psf = gridding.dirty_image(rough, ones, weights, size, cell_rad, threads, w_terms=False)
    beam = clean.fitted_beam(rough, weights, cell_rad, threads)
    return clean.safe_major_gain(psf, beam, cell_rad, options.major_gain)
