"""The way of the data: which stage follows which."""

from collections.abc import Sequence

from dsa110_contimg.pipeline.stage import StageDefinition
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage
from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage
from dsa110_contimg.stages.conversion import ConversionStage
from dsa110_contimg.stages.crossmatch import CrossmatchStage
from dsa110_contimg.stages.imaging import ImagingStage
from dsa110_contimg.stages.mosaic import MosaicStage
from dsa110_contimg.stages.publishing import PublishingStage
from dsa110_contimg.stages.registration import RegistrationStage
from dsa110_contimg.stages.validation import ValidationStage


def from_measurement_sets(
    options: PipelineOptions, registry: Registry | None = None, claim: Claim | None = None
) -> list[StageDefinition]:
    """Stages 2 to 9: what streaming does with a mosaic group."""
    return [
        StageDefinition("calibrate", CalibrationSolveStage(options.calibrate)),
        StageDefinition("apply", CalibrationApplyStage(options.apply), ["calibrate"]),
        StageDefinition("image", ImagingStage(options.image, options.validate), ["apply"]),
        *_from_images(options, registry, claim, ["image"]),
    ]


def from_images(
    options: PipelineOptions, registry: Registry | None = None
) -> list[StageDefinition]:
    """Stages 5 to 9: tile images to a published, cross-matched mosaic."""
    return _from_images(options, registry, None, [])


def _from_images(
    options: PipelineOptions, registry: Registry | None, claim: Claim | None, after: Sequence[str]
) -> list[StageDefinition]:
    return [
        StageDefinition("mosaic", MosaicStage(options.mosaic), after),
        StageDefinition("validate", ValidationStage(options.validate, registry), ["mosaic"]),
        StageDefinition(
            "register",
            RegistrationStage(options.image_key, registry, claim),
            ["mosaic", "validate", *after],
        ),
        StageDefinition(
            "publish",
            PublishingStage(options.dump(), registry, claim),
            ["register", "mosaic", "validate"],
        ),
        StageDefinition("crossmatch", CrossmatchStage(options.crossmatch, registry), ["publish"]),
    ]


def from_subbands(
    options: PipelineOptions, registry: Registry | None = None
) -> list[StageDefinition]:
    """All nine stages."""
    solve, apply, *later = from_measurement_sets(options, registry)
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
