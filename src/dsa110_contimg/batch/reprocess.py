"""The same observations with other options, beside what is published.

Calibration, images and mosaic are made again from the Measurement Sets that are kept, in a
directory of their own: no row of the database changes, nothing is published.
"""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import KnownSets, SolvedSet
from dsa110_contimg.artifacts.mosaics import (
    Evidence,
    History,
    MosaicImage,
    MosaicTarget,
    Validation,
)
from dsa110_contimg.artifacts.tiles import CalibratedTiles, ConvertedTiles, ImagedTiles, ManualFlags
from dsa110_contimg.batch.selection import TileSelection
from dsa110_contimg.batch.tiles import choose_converted
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.durable import check_new
from dsa110_contimg.executors.calls import call
from dsa110_contimg.operations.batch_programs import protected
from dsa110_contimg.pipeline.context import PipelineContext, StageContext
from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
from dsa110_contimg.pipeline.stage import Stage, StageDefinition
from dsa110_contimg.registry import manual_flags
from dsa110_contimg.registry.calibration_sets import known_sets
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.reports.evidence import write_evidence
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.stages import graphs

_WORK = "work"


@dataclass(frozen=True)
class Reprocessed:
    """What was made.

    Attributes
    ----------
    name : str
    path, report : Path
        Mosaic (maps and picture beside it) and its page of evidence.
    verdict : str
    reasons : str
        Which gates were not passed.
    n_tiles : int
        In the mosaic.
    median_rms_jy : float
    """

    name: str
    path: Path
    report: Path
    verdict: str
    reasons: str
    n_tiles: int
    median_rms_jy: float


def reprocess(
    registry: Registry,
    name: str,
    selection: TileSelection,
    options: PipelineOptions,
    output: Path,
    context: PipelineContext,
    keep_work: bool = False,
) -> Reprocessed:
    """Make a mosaic of some observations again, into a new directory.

    Parameters
    ----------
    registry : Registry
        Only read.
    name : str
        Of the mosaic.
    selection : TileSelection
    options : PipelineOptions
    output : Path
        Directory to make.
    context : PipelineContext
        Its root holds the catalogues.
    keep_work : bool
        Keep calibration tables, calibrated Measurement Sets and tile images too.

    Raises
    ------
    UsageError
        If the output exists.
    ContimgError
        The first stage's error; nothing is left then.
    """
    check_new([output])
    tiles = choose_converted(registry, selection)
    first, last = tiles[0], tiles[-1]
    with registry.read() as session:
        flags = manual_flags.during(session, first.start, last.start + last.duration_s)
        known = KnownSets(known_sets(session, first.start))
    work = output / _WORK
    work.mkdir(parents=True)
    layout.catalogues(work).symlink_to(layout.catalogues(context.root).resolve())
    inputs = (
        ConvertedTiles(tuple(tiles)),
        known,
        ManualFlags(tuple(flags)),
        MosaicTarget(name, output / f"{name}.fits"),
    )
    given = replace(context, root=work, inputs=inputs)
    stages = [
        *graphs.beside(options),
        StageDefinition("report", ReportStage(options.dump()), ["mosaic", "validate"]),
    ]
    reads = [tile.ms_path for tile in tiles]
    with protected(context.root, reads), contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, output, ignore_errors=True)
        result = PipelineOrchestrator(stages).run(given).raise_on_failure()
        undo.pop_all()
    if not keep_work:
        shutil.rmtree(work)
    mosaic, validation = result[MosaicImage], result[Validation]
    return Reprocessed(
        name,
        mosaic.path,
        mosaic.path.with_suffix(".html"),
        validation.verdict,
        validation.reasons(),
        len(mosaic.tile_ids),
        mosaic.median_rms_jy,
    )


class ReportStage(Stage):
    """Writes report and provenance beside the mosaic."""

    def __init__(self, options: Mapping[str, Any]):
        self.options = options

    def run(
        self,
        context: StageContext,
        converted: ConvertedTiles,
        calibration_set: SolvedSet,
        choice: Choice,
        calibrated: CalibratedTiles,
        imaged: ImagedTiles,
        mosaic: MosaicImage,
        validation: Validation,
        by_hand: ManualFlags,
    ) -> Evidence:
        """Write."""
        history = History(
            converted=converted,
            imaged=imaged,
            calibrated=calibrated,
            calibration_set=calibration_set,
            choice=choice,
            options=self.options,
            by_hand=by_hand,
            seconds=context.seconds,
        )
        report = call(
            write_evidence,
            mosaic=mosaic,
            validation=validation,
            history=history,
            target=mosaic.path.parent,
        )
        return context.compute(report, "report")
