"""Options of the gates of a mosaic."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from dsa110_contimg.options import Options


class GateOptions(Options):
    """Limits of the gates of a mosaic."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {
        "flux_ratio_low": "min_flux_ratio",
        "flux_ratio_high": "max_flux_ratio",
        "completeness": "min_completeness",
        "rms_factor": "max_rms_ratio",
        "pattern_share": "max_pattern_share",
        "coverage": "min_coverage",
    }
    min_flux_ratio: float = Field(0.8, description="Minimum median flux ratio to the catalogue")
    max_flux_ratio: float = Field(1.2, description="Maximum median flux ratio to the catalogue")
    min_sources: int = Field(
        3, ge=1, description="Minimum number of sources for a flux ratio or an offset"
    )
    min_completeness: float = Field(
        0.6, ge=0, le=1, description="Minimum share of the expected sources that is detected"
    )
    expected_rms_jy: float | None = Field(
        None,
        gt=0,
        description="Rms (Jy/beam) that mosaics are known to have, while fewer than five of the "
        "strip are published; then their median counts. Default: not known, and the rms is "
        "compared with the expected noise of antennas, time and band",
    )
    max_rms_ratio: float = Field(
        2.0, gt=0, description="Maximum rms over that of earlier mosaics, or over expected_rms_jy"
    )
    max_rms_over_noise: float = Field(
        10.0, gt=0, description="Maximum rms over the expected noise of antennas, time and band"
    )
    min_dynamic_range: float = Field(
        5.0, gt=0, description="Minimum dynamic range (peak over rms) of a mosaic"
    )
    max_pattern_share: float = Field(
        0.1, gt=0, le=1, description="Maximum share of the variance in one stripe or ring"
    )
    min_coverage: float = Field(
        0.98,
        ge=0,
        le=1,
        description="Minimum share of the strip, from end to end, that was observed",
    )
    detection_sigma: float = Field(
        5.0, gt=0, description="Signal-to-noise ratio above which a source counts as detected"
    )
