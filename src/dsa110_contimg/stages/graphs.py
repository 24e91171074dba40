"""The way of the data: which stage follows which."""

from dsa110_contimg.pipeline.stage import StageDefinition
from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage
from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage
from dsa110_contimg.stages.conversion import ConversionStage
from dsa110_contimg.stages.crossmatch import CrossmatchStage
from dsa110_contimg.stages.imaging import ImagingStage
from dsa110_contimg.stages.mosaic import MosaicStage
from dsa110_contimg.stages.options import PipelineOptions
from dsa110_contimg.stages.publishing import PublishingStage
from dsa110_contimg.stages.registration import RegistrationStage
from dsa110_contimg.stages.validation import ValidationStage


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
            "register",
            RegistrationStage(options.image_key),
            ["mosaic", "validate", *([after] if after else [])],
        ),
        StageDefinition(
            "publish", PublishingStage(options.dump()), ["register", "mosaic", "validate"]
        ),
        StageDefinition("crossmatch", CrossmatchStage(options.crossmatch), ["publish"]),
    ]


def from_subbands(options: PipelineOptions) -> list[StageDefinition]:
    """All nine stages."""
    solve, apply, *later = from_measurement_sets(options)
    return [
        StageDefinition("convert", ConversionStage(options.convert)),
        StageDefinition(solve.name, solve.stage, ["convert"]),
        StageDefinition(apply.name, apply.stage, ["convert", "calibrate"]),
        *later,
    ]


def beside(options: PipelineOptions) -> list[StageDefinition]:
    """Stages 2 to 6: a mosaic that is validated and published nowhere."""
    wanted = ("calibrate", "apply", "image", "mosaic", "validate")
    return [stage for stage in from_measurement_sets(options) if stage.name in wanted]
