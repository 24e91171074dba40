"""Stage 4: images of each tile."""

from dsa110_contimg import layout
from dsa110_contimg.artifacts.tiles import CalibratedTiles, ImagedTiles
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.executors.own_disk import placed
from dsa110_contimg.pipeline.context import StageContext, without_failures
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.sources.options import ComparisonOptions
from dsa110_contimg.stage_options import ImagingOptions
from dsa110_contimg.tasks.imaging import image


class ImagingStage(Stage):
    """Images every calibrated tile; those that cannot be imaged join those left out before."""

    def __init__(
        self, options: ImagingOptions | None = None, comparison: ComparisonOptions | None = None
    ):
        self.options = options or ImagingOptions()
        self.comparison = comparison

    def run(self, context: StageContext, calibrated: CalibratedTiles) -> ImagedTiles:
        """Image all tiles."""
        calls = [
            call(
                image,
                ms_path=placed(one.host, one.ms_path),
                prefix=fresh_path(
                    layout.images(context.root), one.tile.tile_id, inside=one.tile.tile_id
                ),
                root=context.root,
                options=self.options,
                calibration_set_id=one.calibration_set_id,
                comparison=self.comparison,
            )
            for one in calibrated.tiles
        ]
        made = context.map_sparing(calls, "image")
        good, left_out = without_failures([one.tile.tile_id for one in calibrated.tiles], made)
        return ImagedTiles(good, {**calibrated.left_out, **left_out})
