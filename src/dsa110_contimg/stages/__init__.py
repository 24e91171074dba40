"""The nine stages, in the order of the data. `graphs` puts them together.

Names are imported when first used: the libraries under them take a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsa110_contimg.stages.calibration import CalibrationStage
    from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage
    from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage
    from dsa110_contimg.stages.conversion import ConversionStage
    from dsa110_contimg.stages.crossmatch import CrossmatchStage
    from dsa110_contimg.stages.imaging import ImagingStage
    from dsa110_contimg.stages.mosaic import MosaicStage
    from dsa110_contimg.stages.publishing import PublishingStage
    from dsa110_contimg.stages.registration import RegistrationStage
    from dsa110_contimg.stages.validation import ValidationStage

_MODULES = {
    "ConversionStage": "conversion",
    "CalibrationSolveStage": "calibration_solve",
    "CalibrationApplyStage": "calibration_apply",
    "CalibrationStage": "calibration",
    "ImagingStage": "imaging",
    "MosaicStage": "mosaic",
    "ValidationStage": "validation",
    "RegistrationStage": "registration",
    "PublishingStage": "publishing",
    "CrossmatchStage": "crossmatch",
}

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


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
