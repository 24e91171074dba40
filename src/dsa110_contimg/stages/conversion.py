"""Stage 1: sub-band files to phased Measurement Sets."""

from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.artifacts.tiles import ConvertedTiles, SubbandFiles
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.tasks.conversion import convert
from dsa110_contimg.telescope import DSA110, Telescope
from dsa110_contimg.visibilities import observations, uvh5
from dsa110_contimg.visibilities.options import ConversionOptions


class ConversionStage(Stage):
    """Converts sub-band files of any number of observations."""

    def __init__(self, options: ConversionOptions | None = None, telescope: Telescope = DSA110):
        self.options = options or ConversionOptions()
        self.telescope = telescope

    def run(self, context: StageContext, files: SubbandFiles) -> ConvertedTiles:
        """Convert every observation, in order of time."""
        headers = [uvh5.read_header(Path(path)) for path in files.paths]
        groups = observations.group_by_time(headers)
        directory = layout.measurement_sets(context.root)
        directory.mkdir(parents=True, exist_ok=True)
        calls = [
            call(
                convert,
                files=[header.path for header in group],
                output=fresh_path(directory, observations.tile_id(time_key), ".ms"),
                telescope=self.telescope,
                options=self.options,
            )
            for time_key, group in groups.items()
        ]
        return ConvertedTiles(tuple(context.map(calls, "tile")))
