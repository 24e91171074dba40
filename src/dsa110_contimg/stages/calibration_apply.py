"""Stage 3: a calibrated Measurement Set for each tile."""

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import NO_FLAGS, CalibratedTiles, ConvertedTiles, ManualFlags
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.pipeline.context import StageContext, without_failures
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.stage_options import CalibrationApplyOptions
from dsa110_contimg.tasks.calibration_apply import apply


class CalibrationApplyStage(Stage):
    """Applies a calibration set and what was flagged by hand to every tile.

    A tile that cannot be calibrated is left out with its reason, unless none can.
    """

    def __init__(self, options: CalibrationApplyOptions | None = None):
        self.options = options or CalibrationApplyOptions()

    def run(
        self,
        context: StageContext,
        converted: ConvertedTiles,
        calibration_set: SolvedSet,
        by_hand: ManualFlags = NO_FLAGS,
    ) -> CalibratedTiles:
        """Calibrate all tiles."""
        calls = [
            call(
                apply,
                tile=tile,
                calibration_set=calibration_set,
                output=fresh_path(
                    layout.measurement_sets(context.root),
                    f"{tile.tile_id}_cal",
                    ".ms",
                    own_disk_of=context.root if context.own_disks else None,
                ),
                root=context.root,
                options=self.options,
                manual_flags=by_hand.flags,
            )
            for tile in converted.tiles
        ]
        made = context.map_sparing(calls, "tile")
        good, left_out = without_failures([tile.tile_id for tile in converted.tiles], made)
        return CalibratedTiles(good, left_out)
