"""The way of the data: which stage follows which."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from dsa110_contimg.errors import UsageError
from dsa110_contimg.pipeline.options import Options
from dsa110_contimg.pipeline.stage import StageDefinition
from dsa110_contimg.settings import Settings
from dsa110_contimg.stages.calibration_apply import CalibrationApplyOptions, CalibrationApplyStage
from dsa110_contimg.stages.calibration_solve import CalibrationSolveOptions, CalibrationSolveStage
from dsa110_contimg.stages.conversion import ConversionOptions, ConversionStage
from dsa110_contimg.stages.crossmatch import CrossmatchOptions, CrossmatchStage
from dsa110_contimg.stages.imaging import ImagingOptions, ImagingStage
from dsa110_contimg.stages.mosaic import MosaicOptions, MosaicStage
from dsa110_contimg.stages.publishing import PublishingStage
from dsa110_contimg.stages.registration import RegistrationStage
from dsa110_contimg.stages.validation import ValidationOptions, ValidationStage

_O = TypeVar("_O", bound=Options)


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


def options_from(settings: Settings) -> PipelineOptions:
    """Stage options of the settings; the sky catalogue reaches every stage that uses one."""
    sky = {"sky_catalog": settings.sky_catalog}
    solving = {**sky, **settings.calibrate}
    return PipelineOptions(
        convert=parse_options(
            ConversionOptions, {"min_subbands": settings.min_subbands, **settings.convert}, "convert"
        ),
        calibrate=parse_options(CalibrationSolveOptions, solving, "calibrate"),
        apply=parse_options(CalibrationApplyOptions, {**solving, **settings.apply}, "apply"),
        image=parse_options(ImagingOptions, {**sky, **settings.image}, "image"),
        mosaic=parse_options(MosaicOptions, settings.mosaic, "mosaic"),
        validate=parse_options(ValidationOptions, {**sky, **settings.validate_}, "validate"),
        crossmatch=parse_options(CrossmatchOptions, {**sky, **settings.crossmatch}, "crossmatch"),
    )


def from_measurement_sets(options: PipelineOptions) -> list[StageDefinition]:
    """Stages 2 to 9: what streaming does with a mosaic group."""
    return [
        StageDefinition("calibrate", CalibrationSolveStage(options.calibrate)),
        StageDefinition("apply", CalibrationApplyStage(options.apply), ["calibrate"]),
        StageDefinition("image", ImagingStage(options.image), ["apply"]),
        *from_images(options, after="image"),
    ]


def from_images(options: PipelineOptions, after: str | None = None) -> list[StageDefinition]:
    """Stages 5 to 9: tile images to a published, cross-matched mosaic."""
    return [
        StageDefinition("mosaic", MosaicStage(options.mosaic), [after] if after else []),
        StageDefinition("validate", ValidationStage(options.validate), ["mosaic"]),
        StageDefinition(
            "register", RegistrationStage(options.image_key),
            ["mosaic", "validate", *([after] if after else [])],
        ),
        StageDefinition(
            "publish", PublishingStage(options.dump()), ["register", "mosaic", "validate"]
        ),
        StageDefinition("crossmatch", CrossmatchStage(options.crossmatch), ["publish"]),
    ]  # fmt: skip


def from_subbands(options: PipelineOptions) -> list[StageDefinition]:
    """All nine stages."""
    head, *rest = from_measurement_sets(options)
    return [
        StageDefinition("convert", ConversionStage(options.convert)),
        StageDefinition(head.name, head.stage, ["convert"]),
        StageDefinition(
            rest[0].name, rest[0].stage, ["convert", "calibrate"]
        ),
        *rest[1:],
    ]  # fmt: skip
