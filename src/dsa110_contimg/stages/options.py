"""Options of all nine stages, apart from the stages: reading them imports nothing heavy.

Their field descriptions are the command line's `--help`, the REST schema and the docs.
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from dsa110_contimg.errors import UsageError
from dsa110_contimg.mosaicking import Method
from dsa110_contimg.mosaicking.gates import TileLimits
from dsa110_contimg.pipeline.options import ArcSec, Options
from dsa110_contimg.settings import Settings
from dsa110_contimg.telescope import DSA110

_O = TypeVar("_O", bound=Options)


class ConversionOptions(Options):
    """How sub-band files become a Measurement Set."""

    min_subbands: int = Field(
        12, ge=1, description="Fewest sub-bands that make a tile; absent ones are flagged"
    )


class SkyModelOptions(Options):
    """Which sky the data are compared with."""

    sky_catalog: str = Field("nvss", description="Catalogue of the sky model")
    model_radius_deg: float = Field(
        5.0, gt=0, description="Sources within so many degrees of the tile's centre"
    )
    model_min_jy: float = Field(
        0.005, ge=0, description="Least apparent flux density (Jy) of a model source"
    )


class CalibrationSolveOptions(SkyModelOptions):
    """How bandpass and gains are solved."""

    reference_tile: int = Field(
        5,
        ge=1,
        description="Which tile is the reference, counted from 1 (of fewer: the middle one)",
    )
    min_baselines: int = Field(4, ge=1, description="Fewest baselines an antenna needs")
    min_snr: float = Field(3.0, ge=0, description="Solutions of lower signal-to-noise are flagged")
    uvmin: float = Field(100.0, ge=0, description="Shortest baseline used, wavelengths")
    refant: str = Field(
        ",".join(DSA110.reference_antennas),
        description="Reference antennas by name, comma-separated, in order of preference",
    )
    bandpass_valid_h: float = Field(24.0, gt=0, description="Hours a bandpass holds")
    gains_valid_h: float = Field(1.0, gt=0, description="Hours gains hold")


class CalibrationApplyOptions(CalibrationSolveOptions):
    """How a calibration set is applied."""

    refine_phases: bool = Field(
        True, description="Solve each tile's phases again against the sky model"
    )


class FieldCalibrationOptions(Options):
    """How calibrators of an array that tracks are solved."""

    solint: float = Field(0.0, ge=0, description="Seconds of a gain solution; 0 for one a scan")
    phase_solint: float = Field(
        60.0, gt=0, description="Seconds of the phases taken out before the bandpass is solved"
    )
    min_baselines: int = Field(4, ge=1, description="Fewest baselines an antenna needs")
    min_snr: float = Field(3.0, ge=0, description="Solutions of lower signal-to-noise are flagged")
    refant: str = Field("", description="Reference antennas by name, comma-separated")


class ImagingOptions(SkyModelOptions):
    """How a tile is imaged."""

    size: int = Field(1024, ge=64, le=16384, multiple_of=2, description="Pixels a side")
    cell: ArcSec | None = Field(
        None,
        gt=0,
        description="Pixel size (arcsec, or with a unit: 6arcsec). Default: a quarter of the "
        "restoring beam's minor axis, but large enough to cover the half-power beam",
    )
    weighting: Literal["briggs", "natural", "uniform"] = Field(
        "briggs", description="Imaging weights"
    )
    robust: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Briggs' robustness. Default: 0.5, and down to -0.5 where sidelobes of faint "
        "sources are more than the noise",
    )
    deconvolver: Literal["hogbom", "multiscale"] = Field(
        "hogbom", description="multiscale is slower and better where emission is extended"
    )
    niter: int = Field(20000, ge=0, description="Most CLEAN iterations; 0 for a dirty image")
    auto_mask: float = Field(3.5, gt=0, description="Sigma down to which CLEAN looks everywhere")
    auto_threshold: float = Field(
        1.0, gt=0, description="Sigma down to which CLEAN goes on inside the mask"
    )
    major_gain: float = Field(
        0.8, gt=0, le=1, description="Most of the peak that one major cycle may take"
    )
    max_major: int = Field(25, ge=1, description="Most major cycles")
    local_rms: bool = Field(
        False, description="Measure CLEAN's sigmas against the noise around each place"
    )
    bands: int = Field(
        1,
        ge=1,
        le=32,
        description="Frequency bands that are cleaned together, joined by a polynomial: for "
        "bright sources whose spectra differ",
    )
    spectral_terms: int = Field(2, ge=1, le=4, description="Terms of that polynomial")
    uvmin: float = Field(0.0, ge=0, description="Shortest baseline used, wavelengths")
    uvmax: float | None = Field(None, gt=0, description="Longest baseline used, wavelengths")
    taper: ArcSec = Field(
        0.0, ge=0, description="Width of a Gaussian that smooths the image (arcsec, at half power)"
    )
    selfcal_rounds: int = Field(
        0, ge=0, le=10, description="Most rounds of phase self-calibration; the best is kept"
    )
    selfcal_interval: float = Field(
        60.0, gt=0, description="Seconds of one solution of self-calibration"
    )
    stokes: Literal["I", "IQ"] = Field("I", description="Q is (XX - YY) / 2, beside I")
    imager: Literal["builtin", "wsclean"] = Field(
        "builtin", description="wsclean must be installed; it does not subtract sources outside"
    )
    averaging_loss: float = Field(
        0.001,
        ge=0,
        lt=0.1,
        description="Flux that baseline-dependent averaging may lose at the image's edge, after "
        "the image is corrected for its mean",
    )
    subtract_outside: bool = Field(
        True, description="Subtract sources outside the image, and fit bright ones before CLEAN"
    )
    threads: int = Field(
        1, ge=1, description="Threads; more than 1 is not reproducible to the last bit"
    )


class MosaicOptions(Options):
    """How tiles are combined."""

    method: Method = Field(
        "mean", description="mean, weighted (1/rms2) or pbweighted (response2/rms2)"
    )
    include_uncorrected: bool = Field(
        False, description="Take tiles that are not beam-corrected too"
    )
    min_tiles: int = Field(1, ge=1, description="Fewest tiles that must pass the gates")
    min_dynamic_range: float = Field(
        TileLimits.min_dynamic_range, gt=0, description="Least peak over rms of a tile"
    )
    max_noise_ratio: float = Field(
        TileLimits.max_noise_ratio,
        gt=0,
        description="Largest rms of a tile over the median of the tiles",
    )
    max_beam_deviation: float = Field(
        TileLimits.max_beam_deviation,
        gt=0,
        description="Largest difference of a tile's beam from the median, as a fraction",
    )
    max_flux_deviation: float = Field(
        TileLimits.max_flux_deviation,
        gt=0,
        description="Largest difference of a tile's flux ratio to the catalogue from the median of "
        "the tiles, as a fraction",
    )
    max_offset_beams: float = Field(
        TileLimits.max_offset_beams,
        gt=0,
        description="Largest offset of a tile from the catalogue, in beams (minor axis)",
    )
    max_pattern_share: float = Field(
        TileLimits.max_pattern_share,
        gt=0,
        le=1,
        description="Largest share of a tile's variance in one stripe or ring",
    )
    max_dec_offset_deg: float = Field(
        TileLimits.max_dec_offset_deg,
        gt=0,
        description="Tiles farther from the median declination are of another strip",
    )
    flux_scale: bool = Field(
        True,
        description="Bring each tile to the flux scale that its sources, the other tiles and the "
        "catalogue agree on, where the difference is significant",
    )
    beam_tolerance: float = Field(
        0.02,
        ge=0,
        description="Tiles whose restoring beams differ by more than this fraction are brought to "
        "the smallest beam that all of them fit in",
    )

    def limits(self) -> TileLimits:
        """What the gates ask of a tile."""
        return TileLimits(**{name: getattr(self, name) for name in TileLimits.__annotations__})


class ValidationOptions(Options):
    """Limits of the gates."""

    sky_catalog: str = Field("nvss", description="Catalogue to compare with")
    min_flux_jy: float = Field(0.05, gt=0, description="Faintest catalogue source used (Jy)")
    isolation: float = Field(
        120.0,
        ge=0,
        description="Sources with a catalogue neighbour within so many arcsec are left out",
    )
    model_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The brightest sources that make up this share of the catalogue flux are left "
        "out of the flux ratio: they set the calibration, so they prove nothing",
    )
    flux_ratio_low: float = Field(0.8, description="Least median flux ratio")
    flux_ratio_high: float = Field(1.2, description="Largest median flux ratio")
    min_sources: int = Field(3, ge=1, description="Fewest sources for a ratio or an offset")
    completeness: float = Field(0.6, ge=0, le=1, description="Least share of sources seen")
    expected_rms_jy: float = Field(
        0.008,
        gt=0,
        description="Expected rms (Jy/beam) while fewer than five mosaics of the strip are "
        "published; then their median counts",
    )
    rms_factor: float = Field(2.0, gt=0, description="Largest rms over expected rms")
    min_dynamic_range: float = Field(5.0, gt=0, description="Least peak over rms")
    pattern_share: float = Field(
        0.1, gt=0, le=1, description="Largest share of the variance in one stripe or ring"
    )
    coverage: float = Field(
        0.98, ge=0, le=1, description="Least share of the strip, from end to end, that was seen"
    )
    detection_sigma: float = Field(5.0, gt=0, description="A source counts as seen above this")


class CrossmatchOptions(Options):
    """How sources are found and matched."""

    sky_catalog: str = Field("nvss", description="Catalogue to match with")
    radius: ArcSec = Field(10.0, gt=0, description="Largest distance of a match (arcsec)")
    threshold: float = Field(6.0, gt=0, description="Least peak over local rms of a source")
    flux_tolerance: float = Field(
        0.05,
        ge=0,
        description="Accuracy of catalogue and calibration, as a fraction: a source is discrepant "
        "when it differs by more than four times this and the noise together",
    )
    follow_sigma: float = Field(
        3.0,
        gt=0,
        description="Catalogue sources above so many times the noise get a light curve, whether "
        "they are seen or not",
    )


@dataclass(frozen=True)
class PipelineOptions:
    """Options of all stages."""

    convert: ConversionOptions = field(default_factory=ConversionOptions)
    calibrate: CalibrationSolveOptions = field(default_factory=CalibrationSolveOptions)
    apply: CalibrationApplyOptions = field(default_factory=CalibrationApplyOptions)
    image: ImagingOptions = field(default_factory=ImagingOptions)
    mosaic: MosaicOptions = field(default_factory=MosaicOptions)
    validate: ValidationOptions = field(default_factory=ValidationOptions)
    crossmatch: CrossmatchOptions = field(default_factory=CrossmatchOptions)

    def dump(self) -> dict[str, Any]:
        """Plain values, for provenance."""
        return {name: getattr(self, name).model_dump(mode="json") for name in self.__annotations__}

    @classmethod
    def from_dump(cls, values: Mapping[str, Any]) -> "PipelineOptions":
        """Options from what `dump` gave.

        Raises
        ------
        UsageError
            If this version has another option.
        """
        kinds = typing.get_type_hints(cls)
        return cls(**{name: parse_options(kinds[name], v, name) for name, v in values.items()})

    @property
    def image_key(self) -> str:
        """Key under which a tile's image may be used again."""
        return f"{self.apply.key()[:8]}{self.image.key()[:8]}"


def parse_options(kind: type[_O], values: Mapping[str, Any], section: str) -> _O:
    """Options of a stage from plain values.

    Raises
    ------
    UsageError
        Naming the option that is unknown or out of range.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in (section, *first["loc"]))
        raise UsageError(f"option {name}: {first['msg']}") from error


def with_given(settings: Settings, given: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings whose stage options are replaced by those given, a section each.

    Raises
    ------
    UsageError
        For a section that is none.
    """
    unknown = sorted(given.keys() - PipelineOptions.__annotations__.keys())
    if unknown:
        have = ", ".join(PipelineOptions.__annotations__)
        raise UsageError(f"options {unknown[0]}: there is no such stage (there are {have})")
    fields = {name: "validate_" if name == "validate" else name for name in given}
    changed = {field: {**getattr(settings, field), **given[name]} for name, field in fields.items()}
    return settings.model_copy(update=changed)


def options_from(settings: Settings) -> PipelineOptions:
    """Stage options of the settings; the sky catalogue reaches every stage that uses one."""
    sky = {"sky_catalog": settings.sky_catalog}
    solving = {**sky, **settings.calibrate}
    return PipelineOptions(
        convert=parse_options(
            ConversionOptions,
            {"min_subbands": settings.min_subbands, **settings.convert},
            "convert",
        ),
        calibrate=parse_options(CalibrationSolveOptions, solving, "calibrate"),
        apply=parse_options(CalibrationApplyOptions, {**solving, **settings.apply}, "apply"),
        image=parse_options(ImagingOptions, {**sky, **settings.image}, "image"),
        mosaic=parse_options(MosaicOptions, settings.mosaic, "mosaic"),
        validate=parse_options(ValidationOptions, {**sky, **settings.validate_}, "validate"),
        crossmatch=parse_options(CrossmatchOptions, {**sky, **settings.crossmatch}, "crossmatch"),
    )
