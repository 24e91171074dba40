"""All nine stages on explicit sub-band files, once."""

from collections.abc import Sequence
from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import MosaicTarget, PublishedMosaic
from dsa110_contimg.artifacts.tiles import SubbandFiles
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.operations import sky_survey
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.products.survey import Survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.mosaics import check_name
from dsa110_contimg.settings import Settings
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.stages import graphs
from dsa110_contimg.visibilities import uvh5


def subband_files(inputs: Sequence[Path]) -> list[Path]:
    """Sub-band files of a list of files and directories.

    Raises
    ------
    UsageError
        If a name does not exist or a directory holds none.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if uvh5.parse_name(p) is not None)
            if not inside:
                raise UsageError(f"{path}: holds no file named like a sub-band file")
            files.extend(inside)
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: does not exist")
    if not files:
        raise BadInputError("no sub-band files were given")
    return files


def run_pipeline(
    registry: Registry,
    files: Sequence[Path],
    options: PipelineOptions,
    context: PipelineContext,
    name: str = "",
) -> PublishedMosaic:
    """Sub-band files to a published, cross-matched mosaic; fails at once.

    Parameters
    ----------
    registry : Registry
    files : sequence of Path
    options : PipelineOptions
    context : PipelineContext
    name : str
        Of the mosaic; empty: the name that streaming gives.

    Raises
    ------
    ContimgError
        The first stage's error.
    """
    if name:
        # Before hours of work, and again when the mosaic is registered.
        with registry.read() as session:
            check_name(session, name)
    paths = [Path(path).absolute() for path in files]
    given = context.with_inputs(SubbandFiles(paths), MosaicTarget(name))
    graph = PipelineOrchestrator(graphs.from_subbands(options, registry))
    return graph.run(given).raise_on_failure()[PublishedMosaic]


def update_survey(registry: Registry, settings: Settings, context: PipelineContext) -> Survey:
    """Bring the HiPS of the sky up to date with what is published, unless they are not wanted."""
    if not settings.hips:
        return Survey(layout.hips(settings.root))
    return sky_survey.start_update(registry, settings.root, context.executor).result()
