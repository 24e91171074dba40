"""Stage 6: gates with numbers on a mosaic."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.fits_image import Image, read_fits
from dsa110_contimg.imaging.restore import robust_rms
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.quality import gates
from dsa110_contimg.quality.gates import Gate, Verdict
from dsa110_contimg.sky import astrometry, catalogues
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX, Catalogue
from dsa110_contimg.sources.photometry import measure_at
from dsa110_contimg.stages.mosaic import MosaicImage, companion
from dsa110_contimg.stages.options import ValidationOptions


@dataclass(frozen=True)
class SourceCheck:
    """One catalogue source in the mosaic.

    Attributes
    ----------
    ra_deg, dec_deg : float
    catalogue_jy, measured_jy, noise_jy : float
        Catalogue flux density scaled to the mosaic's frequency; measured peak.
    east_arcsec, north_arcsec : float
    in_ratio : bool
        Used for the flux ratio.
    """

    ra_deg: float
    dec_deg: float
    catalogue_jy: float
    measured_jy: float
    noise_jy: float
    east_arcsec: float
    north_arcsec: float
    in_ratio: bool


@dataclass(frozen=True)
class Validation:
    """Verdict on a mosaic.

    Attributes
    ----------
    verdict : Verdict
    gates : tuple of Gate
    sky_catalog : str
    sources : tuple of SourceCheck
    """

    verdict: Verdict
    gates: tuple[Gate, ...]
    sky_catalog: str
    sources: tuple[SourceCheck, ...]

    def reasons(self) -> str:
        """Which gates were not passed, and by how much."""
        return "; ".join(
            f"{gate.name} {gate.value:.4g} ({gate.limit}{', ' + gate.note if gate.note else ''})"
            for gate in self.gates
            if gate.verdict is not Verdict.PASSED
        )


def validate(
    path: Path, root: Path, options: ValidationOptions, n_used: int = 0, n_given: int = 0
) -> Validation:
    """Check a mosaic against a catalogue and its own noise.

    Parameters
    ----------
    path : Path
        FITS file; its `_rms` and `_coverage` maps are used where they exist.
    root : Path
        Where catalogues lie.
    options : ValidationOptions
    n_used, n_given : int
        Tiles in the mosaic, and tiles that were to be.

    Raises
    ------
    BadInputError, UsageError
    """
    image = read_fits(path)
    coverage_path, rms_path = companion(path, "coverage"), companion(path, "rms")
    observed = (
        read_fits(coverage_path).pixels > 0 if coverage_path.exists() else np.isfinite(image.pixels)
    )
    if not observed.any():
        raise BadInputError(f"{path}: holds no observed pixel")
    measured_rms = robust_rms(image.pixels[observed])
    noise = (
        np.maximum(read_fits(rms_path).pixels, 0.5 * measured_rms)
        if rms_path.exists()
        else np.full(image.pixels.shape, measured_rms, np.float32)
    )
    noise = np.where(np.isfinite(noise), noise, measured_rms)
    catalogue = catalogues.load(root, options.sky_catalog)
    sources, n_expected, n_detected = _check_sources(image, noise, catalogue, options)
    ratio = np.array([s.measured_jy / s.catalogue_jy for s in sources if s.in_ratio])
    seen = [s for s in sources if s.measured_jy >= 10 * s.noise_jy]
    found = (
        gates.flux_ratio(
            ratio, options.min_sources, options.flux_ratio_low, options.flux_ratio_high
        ),
        gates.position_offset(
            np.array([s.east_arcsec for s in seen]), np.array([s.north_arcsec for s in seen]),
            options.min_sources,
            0.1 * image.beam.major_rad / astrometry.ARCSEC_RAD if image.beam else 5.0,
        ),
        gates.completeness(n_detected, n_expected, options.completeness),
        gates.noise(measured_rms, options.expected_rms_jy, options.rms_factor),
        gates.dynamic_range(
            float(np.nanmax(np.where(observed, image.pixels, np.nan))), measured_rms,
            options.min_dynamic_range,
        ),
        gates.finite(
            int(np.count_nonzero(~np.isfinite(image.pixels[observed]))), int(observed.sum())
        ),
        *((gates.tiles_used(n_used, n_given),) if n_given else ()),
    )  # fmt: skip
    return Validation(gates.overall(found), found, options.sky_catalog, tuple(sources))


def _check_sources(
    image: Image, noise: np.ndarray, catalogue: Catalogue, options: ValidationOptions
) -> tuple[list[SourceCheck], int, int]:
    """Isolated catalogue sources on observed pixels, how many should be seen, how many are."""
    ny, nx = image.pixels.shape
    middle = image.wcs.all_pix2world([[nx / 2, ny / 2]], 0)[0]
    radius = np.rad2deg(np.hypot(nx, ny) / 2 * image.cell_rad) + 0.1
    near = catalogue.cone(float(middle[0]), float(middle[1]), float(radius))
    vectors = astrometry.radec_to_vector(np.deg2rad(near.ra_deg), np.deg2rad(near.dec_deg))
    alone = _isolated(vectors, options.isolation * astrometry.ARCSEC_RAD)
    index = np.flatnonzero(alone & (near.flux_jy >= options.min_flux_jy))
    measured = measure_at(image, noise, near.ra_deg[index], near.dec_deg[index])
    scaled = (
        near.flux_jy[index] * (image.frequency_hz / near.frequency_hz) ** DEFAULT_SPECTRAL_INDEX
    )
    order = np.argsort(-scaled[measured.observed])
    bright = scaled[measured.observed][order]
    leading = np.zeros(bright.size, bool)
    leading[order] = np.cumsum(bright) - bright < options.model_share * bright.sum()
    sources = []
    for k, i in enumerate(np.flatnonzero(measured.observed)):
        strong = measured.peak_jy[i] >= 10 * measured.noise_jy[i]
        sources.append(
            SourceCheck(
                ra_deg=float(near.ra_deg[index[i]]),
                dec_deg=float(near.dec_deg[index[i]]),
                catalogue_jy=float(scaled[i]),
                measured_jy=float(measured.peak_jy[i]),
                noise_jy=float(measured.noise_jy[i]),
                east_arcsec=float(measured.offset_east_rad[i] / astrometry.ARCSEC_RAD),
                north_arcsec=float(measured.offset_north_rad[i] / astrometry.ARCSEC_RAD),
                in_ratio=bool(strong and not leading[k]),
            )
        )
    expected = [s for s in sources if s.catalogue_jy >= 2 * options.detection_sigma * s.noise_jy]
    detected = [s for s in expected if s.measured_jy >= options.detection_sigma * s.noise_jy]
    return sources, len(expected), len(detected)


def _isolated(vectors: np.ndarray, radius_rad: float) -> np.ndarray:
    """True where no other unit vector lies within a radius."""
    from scipy.spatial import KDTree

    if len(vectors) < 2:
        return np.ones(len(vectors), bool)
    distance = np.asarray(KDTree(vectors).query(vectors, k=2)[0])
    return distance[:, 1] > 2 * np.sin(radius_rad / 2)


class ValidationStage(Stage):
    """Validates `mosaic`."""

    inputs = ("mosaic",)
    outputs = ("validation",)

    def __init__(self, options: ValidationOptions | None = None):
        self.options = options or ValidationOptions()

    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Judge the mosaic; a bad verdict is a result, not an error."""
        mosaic: MosaicImage = context["mosaic"]
        n_used = len(mosaic.tile_ids)
        call = {
            "path": mosaic.path,
            "root": context.root,
            "options": self.options,
            "n_used": n_used,
            "n_given": n_used + len(mosaic.left_out),
        }
        return {"validation": context.map(validate, [call], "validation")[0]}
