"""Stage 5: many tile images, one mosaic."""

from collections.abc import Sequence

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import MosaicImage, MosaicTarget, mosaic_name
from dsa110_contimg.artifacts.tiles import ConvertedTile, ConvertedTiles, ImagedTile, ImagedTiles
from dsa110_contimg.errors import NothingToDo
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.tasks.mosaic import build_mosaic

_STAGED = MosaicTarget()


class MosaicStage(Stage):
    """Combines tile images.

    Without a target the mosaic is staged under the root with streaming's name.
    """

    def __init__(self, options: MosaicOptions | None = None):
        self.options = options or MosaicOptions()

    def run(
        self,
        context: StageContext,
        imaged: ImagedTiles,
        converted: ConvertedTiles | None = None,
        target: MosaicTarget = _STAGED,
    ) -> MosaicImage:
        """Combine."""
        images = sorted(imaged.tiles, key=lambda image: image.start)
        if not images:
            raise NothingToDo("there are no tile images to combine")
        # Named after all tiles of the group, those too that could not be imaged.
        group: Sequence[ConvertedTile | ImagedTile] = (
            imaged.tiles if converted is None else converted.tiles
        )
        first = min(group, key=lambda tile: tile.start)
        end = max(tile.start + tile.duration_s for tile in group)
        name = target.name or mosaic_name(first.tile_id, first.start, end)
        output = target.path or fresh_path(layout.images(context.root), name, inside=f"{name}.fits")
        combination = call(
            build_mosaic,
            images=images,
            output=output,
            name=name,
            options=self.options,
            without=imaged.left_out,
        )
        return context.compute(combination, "mosaic")
