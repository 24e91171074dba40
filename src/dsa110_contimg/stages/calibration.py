"""Stages 2 and 3 as one, for graphs that need no part of them."""

from dsa110_contimg.artifacts.calibration import NO_SETS, KnownSets, SolvedSet
from dsa110_contimg.artifacts.tiles import NO_FLAGS, CalibratedTiles, ConvertedTiles, ManualFlags
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.stage_options import CalibrationApplyOptions, CalibrationSolveOptions
from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage
from dsa110_contimg.stages.calibration_solve import CalibrationSolveStage


class CalibrationStage(Stage):
    """Solving and application in one stage."""

    def __init__(self, options: CalibrationApplyOptions | None = None):
        self.options = options or CalibrationApplyOptions()

    def run(
        self,
        context: StageContext,
        converted: ConvertedTiles,
        known: KnownSets = NO_SETS,
        by_hand: ManualFlags = NO_FLAGS,
    ) -> tuple[SolvedSet, Choice, CalibratedTiles]:
        """Solve the reference tile, then calibrate all."""
        solve_options = CalibrationSolveOptions(
            **self.options.model_dump(exclude={"refine_phases"})
        )
        solve, apply = CalibrationSolveStage(solve_options), CalibrationApplyStage(self.options)
        solved, choice = solve.run(context, converted, known, by_hand)
        return solved, choice, apply.run(context, converted, solved, by_hand)
