"""Options of imaging."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from dsa110_contimg.options import ArcSec, Options
from dsa110_contimg.telescope import DSA110

Weighting = Literal["briggs", "natural", "uniform"]


class CleanOptions(Options):
    """Depth and algorithm of CLEAN."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {
        "auto_mask": "auto_mask_sigma",
        "auto_threshold": "auto_threshold_sigma",
    }
    niter: int = Field(
        20000, ge=0, description="Maximum number of CLEAN iterations; 0 for a dirty image"
    )
    auto_mask_sigma: float = Field(
        3.5,
        gt=0,
        description="Threshold of CLEAN without a mask, in sigma; its components are the mask",
    )
    auto_threshold_sigma: float = Field(
        1.0, gt=0, description="Threshold of CLEAN inside the mask, in sigma"
    )
    deconvolver: Literal["hogbom", "multiscale"] = Field(
        "hogbom", description="multiscale is slower and better where emission is extended"
    )
    major_gain: float = Field(
        0.8, gt=0, le=1, description="Maximum fraction of the peak that one major cycle takes"
    )
    max_major: int = Field(25, ge=1, description="Maximum number of major cycles")
    local_rms: bool = Field(
        False, description="Measure sigma around each place, not over the whole image"
    )
    bands: int = Field(
        1,
        ge=1,
        le=32,
        description="Number of frequency bands that are cleaned together, joined by a polynomial: "
        "for bright sources whose spectra differ",
    )
    spectral_terms: int = Field(2, ge=1, le=4, description="Number of terms of that polynomial")
    threads: int = Field(
        1, ge=1, description="Number of threads; more than 1 is not reproducible to the last bit"
    )


class TileImageOptions(CleanOptions):
    """Options for imaging a tile."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {
        "cell": "cell_arcsec",
        "uvmin": "uv_min_lambda",
        "uvmax": "uv_max_lambda",
        "taper": "taper_arcsec",
    }
    size: int = Field(
        1024, ge=64, le=16384, multiple_of=2, description="Number of pixels on each side"
    )
    cell_arcsec: ArcSec | None = Field(
        None,
        gt=0,
        description="Size of a pixel (arcsec, or with a unit: 6arcsec). Default: a quarter of the "
        "restoring beam's minor axis, but large enough to cover the half-power beam",
    )
    weighting: Weighting = Field("briggs", description="Imaging weights")
    robust: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Briggs' robustness. Default: 0.5, and down to -0.5 where sidelobes of faint "
        "sources are more than the noise",
    )
    uv_min_lambda: float = Field(
        0.0, ge=0, description="Minimum length of baselines that are imaged (wavelengths)"
    )
    uv_max_lambda: float | None = Field(
        None, gt=0, description="Maximum length of baselines that are imaged (wavelengths)"
    )
    taper_arcsec: ArcSec = Field(
        0.0, ge=0, description="Width at half power of a Gaussian that smooths the image (arcsec)"
    )
    averaging_loss: float = Field(
        0.001,
        ge=0,
        lt=0.1,
        description="Maximum fraction of the flux density that baseline-dependent averaging takes "
        "at the edge of the image, after the image is corrected for its mean",
    )
    sefd_jy: float = Field(
        DSA110.system_equivalent_flux_density_jy,
        gt=0,
        description="System equivalent flux density of one antenna and polarization (Jy), which "
        "the expected noise is computed from",
    )


class SelfCalibrationOptions(Options):
    """Options for phase self-calibration."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"selfcal_interval": "selfcal_interval_s"}
    selfcal_rounds: int = Field(
        0,
        ge=0,
        le=10,
        description="Maximum number of rounds of phase self-calibration; the best is kept",
    )
    selfcal_interval_s: float = Field(
        60.0, gt=0, description="Interval of a solution of self-calibration (s)"
    )
