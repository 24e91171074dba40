"""The tree of options: one section for each stage, composed of the options of its science."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.imaging.options import SelfCalibrationOptions, TileImageOptions
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.options import parse_options
from dsa110_contimg.quality.options import GateOptions
from dsa110_contimg.records import JsonObject
from dsa110_contimg.sky.options import SkyModelOptions
from dsa110_contimg.sources.options import ComparisonOptions, CrossmatchOptions
from dsa110_contimg.visibilities.options import ConversionOptions


class CalibrationSolveOptions(SkyModelOptions, SolveOptions):
    """Options for solving bandpass and gains."""

    reference_tile: int = Field(
        5,
        ge=1,
        description="Number of the reference tile, from 1; the middle tile of a shorter group",
    )
    bandpass_valid_h: float = Field(24.0, gt=0, description="Validity of a bandpass (hours)")
    gains_valid_h: float = Field(1.0, gt=0, description="Validity of gains (hours)")


class CalibrationApplyOptions(CalibrationSolveOptions):
    """Options for applying a calibration set."""

    refine_phases: bool = Field(
        True, description="Solve the phases of each tile again against the sky model"
    )


class ImagingOptions(SkyModelOptions, TileImageOptions, SelfCalibrationOptions):
    """Options of the imaging stage."""

    stokes: Literal["I", "IQ"] = Field("I", description="Q is (XX - YY) / 2, beside I")
    imager: Literal["builtin", "wsclean"] = Field(
        "builtin", description="wsclean must be installed; it does not subtract sources outside"
    )
    subtract_outside: bool = Field(
        True, description="Subtract sources outside the image, and fit bright ones before CLEAN"
    )


class ValidationOptions(ComparisonOptions, GateOptions):
    """Options for validating a mosaic."""


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

    def dump(self) -> dict[str, JsonObject]:
        """Plain values, for provenance."""
        return {name: getattr(self, name).model_dump(mode="json") for name in self.__annotations__}

    @classmethod
    def from_dump(cls, values: Mapping[str, Mapping[str, object]]) -> "PipelineOptions":
        """Options from what `dump` gave, of an earlier version too.

        Raises
        ------
        UsageError
            If this version lacks an option.
        """
        kinds = typing.get_type_hints(cls)
        sections = {}
        for section, given in values.items():
            now = kinds[section].former_names()
            renamed = {now.get(name, name): value for name, value in given.items()}
            sections[section] = parse_options(kinds[section], renamed, section)
        return cls(**sections)

    @property
    def image_key(self) -> str:
        """Key under which a tile's image may be used again."""
        return f"{self.apply.key()[:8]}{self.image.key()[:8]}"
