"""The nine stages, in the order of the data. `graphs` puts them together."""

from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage, CalibrationStage
from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage
from dsa110_contimg.stages.conversion import ConversionStage
from dsa110_contimg.stages.crossmatch import CrossmatchStage
from dsa110_contimg.stages.imaging import ImagingStage
from dsa110_contimg.stages.mosaic import MosaicStage
from dsa110_contimg.stages.publishing import PublishingStage
from dsa110_contimg.stages.registration import RegistrationStage
from dsa110_contimg.stages.validation import ValidationStage

__all__ = [
    "CalibrationApplyStage",
    "CalibrationSolveStage",
    "CalibrationStage",
    "ConversionStage",
    "CrossmatchStage",
    "ImagingStage",
    "MosaicStage",
    "PublishingStage",
    "RegistrationStage",
    "ValidationStage",
]
