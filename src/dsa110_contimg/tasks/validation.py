"""Check one mosaic: gates with numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.mosaics import Validation, companion
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.header_cards import EXPECTED_RMS_CARD
from dsa110_contimg.imaging.image_reader import frequency_of, read_companion, read_image
from dsa110_contimg.imaging.sky_image import SkyImage
from dsa110_contimg.quality import gates
from dsa110_contimg.quality.artefacts import Artefacts, find_artefacts
from dsa110_contimg.quality.gates import Gate
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sources.comparison import against_catalogue
from dsa110_contimg.sources.source_check import SourceCheck
from dsa110_contimg.stage_options import ValidationOptions


def validate(
    path: Path,
    root: Path,
    options: ValidationOptions,
    n_used: int = 0,
    n_given: int = 0,
    usual_rms_jy: float | None = None,
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
    usual_rms_jy : float, optional
        Of earlier mosaics of the strip.

    Raises
    ------
    BadInputError, UsageError
    """
    image = read_image(path)
    frequency_hz = frequency_of(path, image)
    coverage_path, rms_path = companion(path, "coverage"), companion(path, "rms")
    observed = (
        read_companion(coverage_path, image) > 0
        if coverage_path.exists()
        else np.isfinite(image.pixels)
    )
    if not observed.any():
        raise BadInputError(f"{path}: holds no observed pixel")
    measured_rms = robust_rms(image.pixels[observed])
    noise = (
        np.maximum(read_companion(rms_path, image), 0.5 * measured_rms)
        if rms_path.exists()
        else np.full(image.pixels.shape, measured_rms, np.float32)
    )
    noise = np.where(np.isfinite(noise), noise, measured_rms)
    sources = against_catalogue(
        image,
        noise,
        frequency_hz,
        catalogues.load(root, options.sky_catalog),
        options.min_flux_jy,
        options.isolation_arcsec * ARCSEC_RAD,
        options.model_share,
    )
    found = (
        *_source_gates(sources, image, options),
        gates.noise(measured_rms, _expected_rms_jy(image), usual_rms_jy, options),
        gates.dynamic_range(
            float(np.nanmax(np.where(observed, image.pixels, np.nan))),
            measured_rms,
            options.min_dynamic_range,
        ),
        gates.finite(
            int(np.count_nonzero(~np.isfinite(image.pixels[observed]))), int(observed.sum())
        ),
        gates.coverage(observed, options.min_coverage),
        *_pattern_gates(find_artefacts(image.pixels, noise), options),
        *((gates.tiles_used(n_used, n_given),) if n_given else ()),
    )
    return Validation(gates.overall(found), found, options.sky_catalog, sources)


def _expected_rms_jy(image: SkyImage) -> float | None:
    """Expected noise that the header of one of our images states."""
    stated = image.header.get(EXPECTED_RMS_CARD)
    return float(stated) if isinstance(stated, int | float) else None


def _source_gates(
    sources: Sequence[SourceCheck], image: SkyImage, options: ValidationOptions
) -> list[Gate]:
    """Flux scale, positions, completeness and beam."""
    ratios = np.array([s.measured_jy / s.catalogue_jy for s in sources if s.in_ratio])
    strong = [s for s in sources if s.is_strong]
    expected = [s for s in sources if s.catalogue_jy >= 2 * options.detection_sigma * s.noise_jy]
    detected = [s for s in expected if s.measured_jy >= options.detection_sigma * s.noise_jy]
    made = [
        gates.flux_ratio(
            ratios, options.min_sources, options.min_flux_ratio, options.max_flux_ratio
        ),
        gates.position_offset(
            np.array([s.east_arcsec for s in strong]),
            np.array([s.north_arcsec for s in strong]),
            options.min_sources,
            0.1 * image.beam.major_rad / ARCSEC_RAD if image.beam else 5.0,
        ),
        gates.completeness(len(detected), len(expected), options.min_completeness),
    ]
    if image.beam is not None:
        cell = image.cell_rad
        made.append(gates.beam(image.beam.major_rad / cell, image.beam.minor_rad / cell))
    return made


def _pattern_gates(found: Artefacts, options: ValidationOptions) -> list[Gate]:
    return [
        gates.pattern("stripes", found.stripe_share, found.stripe_cells, options.max_pattern_share),
        gates.pattern("rings", found.ring_share, found.ring_cells, options.max_pattern_share),
    ]
