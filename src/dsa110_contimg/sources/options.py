"""Options of the comparison with catalogues."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from dsa110_contimg.options import ArcSec
from dsa110_contimg.sky.options import CatalogueOptions


class ComparisonOptions(CatalogueOptions):
    """Selection of the catalogue sources that an image is compared with."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"isolation": "isolation_arcsec"}
    min_flux_jy: float = Field(
        0.05, gt=0, description="Minimum flux density of catalogue sources that are used (Jy)"
    )
    isolation_arcsec: ArcSec = Field(
        120.0,
        ge=0,
        description="Sources with a catalogue neighbour within this distance (arcsec) are left out",
    )
    model_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The brightest sources that make up this share of the catalogue flux are left "
        "out of the flux ratio: they set the calibration, so they prove nothing",
    )


class CrossmatchOptions(CatalogueOptions):
    """Options for finding sources and matching them with a catalogue."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {
        "radius": "radius_arcsec",
        "threshold": "threshold_sigma",
    }
    radius_arcsec: ArcSec = Field(10.0, gt=0, description="Maximum distance of a match (arcsec)")
    threshold_sigma: float = Field(
        6.0, gt=0, description="Minimum peak of a source over the local rms"
    )
    flux_tolerance: float = Field(
        0.05,
        ge=0,
        description="Accuracy of catalogue and calibration, as a fraction: a source is discrepant "
        "when it differs by more than four times this and the noise together",
    )
    follow_sigma: float = Field(
        3.0,
        gt=0,
        description="Catalogue sources above this many times the noise get a light curve, whether "
        "they are seen or not",
    )
