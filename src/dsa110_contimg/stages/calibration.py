"""Stages 2 and 3 as one, for graphs that need no part of them."""

from collections.abc import Mapping
from typing import Any

from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage
from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage
from dsa110_contimg.stages.options import CalibrationApplyOptions, CalibrationSolveOptions


class CalibrationStage(Stage):
    """Solving and application in one stage."""

    inputs = ("measurement_sets",)
    outputs = ("calibration_set", "calibration_choice", "calibrated_tiles", "left_out")

    def __init__(self, options: CalibrationApplyOptions | None = None):
        self.options = options or CalibrationApplyOptions()

    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Solve the reference tile, then calibrate all."""
        solve_options = CalibrationSolveOptions(
            **self.options.model_dump(exclude={"refine_phases"})
        )
        solved = CalibrationSolveStage(solve_options).run(context)
        applied = CalibrationApplyStage(self.options).run(context.with_artifacts(solved))
        return {**solved, **applied}
