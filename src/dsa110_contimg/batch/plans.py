"""Batch mosaics: `plan` chooses tiles and writes down which, `build` makes exactly that."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.imaging.fits_image import write_casa_image
from dsa110_contimg.mosaicking import METHODS, gates
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.fresh import FreshPath
from dsa110_contimg.registry import records
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import CalibrationSet, Plan, TileImage
from dsa110_contimg.stages.imaging import ImagedTile
from dsa110_contimg.stages.mosaic import (
    MAPS,
    Depth,
    MosaicImage,
    build_mosaic,
    companion,
    facts,
    predict_depth,
    select_tiles,
)
from dsa110_contimg.stages.options import MosaicOptions, parse_options

SUFFIXES = (".fits", ".image")


@dataclass(frozen=True)
class MosaicPlan:
    """What a mosaic will be made of.

    Attributes
    ----------
    name : str
    method : str
    since, until : float or None
        Observation time, Unix seconds.
    include_uncorrected : bool
    tiles : tuple of ImagedTile
        In order of time.
    """

    name: str
    method: str
    since: float | None
    until: float | None
    include_uncorrected: bool
    tiles: tuple[ImagedTile, ...]

    def options(self) -> MosaicOptions:
        """As options of the mosaic stage."""
        values = {"method": self.method, "include_uncorrected": self.include_uncorrected}
        return parse_options(MosaicOptions, values, "mosaic")

    def gate_reasons(self) -> dict[str, str]:
        """Tiles that a gate will leave out, and why."""
        return gates.tile_gates([facts(tile) for tile in self.tiles], self.options().limits())


def query_tiles(
    registry: Registry,
    time_range: tuple[float | None, float | None] = (None, None),
    pb_corrected_only: bool = True,
) -> list[ImagedTile]:
    """Images of the tiles observed in a time range, one a tile.

    A tile with several images gives the one whose calibration was observed nearest in time.

    Parameters
    ----------
    registry : Registry
    time_range : tuple of float or None
        First and last observation time, Unix seconds, both included; None is open.
    pb_corrected_only : bool
        Only images that are beam-corrected.
    """
    since, until = time_range
    query = select(TileImage, CalibrationSet.observed).outerjoin(
        CalibrationSet, CalibrationSet.id == TileImage.calibration_set_id
    )
    if since is not None:
        query = query.where(TileImage.start >= since)
    if until is not None:
        query = query.where(TileImage.start <= until)
    if pb_corrected_only:
        query = query.where(TileImage.beam_corrected)
    best: dict[str, tuple[float, str, TileImage]] = {}
    with registry.read() as session:
        for row, observed in session.execute(query):
            distance = abs(row.start - observed) if observed is not None else float("inf")
            candidate = (distance, row.calibration_set_id + row.options_key, row)
            held = best.get(row.tile_id)
            if held is None or candidate[:2] < held[:2]:
                best[row.tile_id] = candidate
    rows = sorted((row for _, _, row in best.values()), key=lambda row: row.start)
    return [records.from_json(ImagedTile, row.record) for row in rows]


def plan(
    registry: Registry,
    name: str,
    since: float | None = None,
    until: float | None = None,
    method: str = "mean",
    include_uncorrected: bool = False,
) -> MosaicPlan:
    """Choose tiles and store the plan; a plan of the same name is replaced.

    Raises
    ------
    NothingToDo
        If no tile was observed in the time range.
    UsageError
        For an unknown method.
    """
    if method not in METHODS:
        raise UsageError(f"unknown mosaic method {method!r}; choose one of {', '.join(METHODS)}")
    if not name or "/" in name or name.startswith("."):
        raise UsageError(f"plan name {name!r}: give a name without '/' and not beginning with '.'")
    tiles = query_tiles(registry, (since, until), not include_uncorrected)
    if not tiles:
        raise NothingToDo(
            "no imaged tile in the time range; process sub-band files first, or widen "
            "--since and --until"
        )
    made = MosaicPlan(name, method, since, until, include_uncorrected, tuple(tiles))
    with registry.write() as session:
        session.merge(Plan(name=name, created=time.time(), document=records.to_json(made)))
    return made


def predicted_depth(plan: MosaicPlan) -> Depth | None:
    """Noise that the mosaic will have; None if no tile passes the gates.

    Raises
    ------
    BadInputError
        If a tile's files are gone.
    """
    try:
        return predict_depth(plan.tiles, plan.options())
    except NothingToDo:
        return None


def load_plan(registry: Registry, name: str) -> MosaicPlan:
    """A stored plan.

    Raises
    ------
    UsageError
    """
    with registry.read() as session:
        row = session.get(Plan, name)
        if row is None:
            have = ", ".join(session.scalars(select(Plan.name).order_by(Plan.name))) or "none"
            raise UsageError(
                f"no plan {name!r} (there: {have}); make it with "
                f"'dsa110-contimg-mosaic plan --name {name}'"
            )
        return records.from_json(MosaicPlan, row.document)


def check_build(made: MosaicPlan, output: Path, overwrite: bool) -> list[ImagedTile]:
    """Everything that can be checked before building; writes nothing.

    Returns
    -------
    list of ImagedTile
        Tiles that pass the gates.

    Raises
    ------
    UsageError, NothingToDo
    """
    if output.suffix not in SUFFIXES:
        raise UsageError(f"{output}: give a name that ends in {' or '.join(SUFFIXES)}")
    _check_writable(output.parent)
    existing = [path for path in _outputs(output) if path.exists()]
    if existing and not overwrite:
        raise UsageError(f"{existing[0]}: exists already; choose another --output or --overwrite")
    for tile in made.tiles:
        for kind in ("image", "pb"):
            if not tile.file(kind).exists():
                raise UsageError(f"{tile.file(kind)}: an input of the plan is gone; plan again")
    return select_tiles(made.tiles, made.options())[0]


def build(
    made: MosaicPlan, output: Path, overwrite: bool = False, context: PipelineContext | None = None
) -> MosaicImage:
    """Build a planned mosaic as FITS or CASA image, with its maps and picture beside it.

    The files appear under their names when all of them are complete.

    Parameters
    ----------
    made : MosaicPlan
    output : Path
        Ends in .fits or .image.
    overwrite : bool
    context : PipelineContext, optional
        Its executor computes.
    """
    from dataclasses import replace

    check_build(made, output, overwrite)
    context = context or PipelineContext(output.parent)
    scratch = output.parent / f".{output.name}.{uuid4().hex[:8]}"
    scratch.mkdir()
    try:
        call = {
            "images": made.tiles,
            "output": FreshPath(scratch, "made", inside=f"{output.stem}.fits"),
            "name": made.name,
            "options": made.options(),
        }
        mosaic: MosaicImage = context.map(build_mosaic, [call], "mosaic")[0]
        if output.suffix == ".image":
            write_casa_image(mosaic.path.with_name(output.name), mosaic.path)
        for target in _outputs(output):
            if target.is_dir():
                shutil.rmtree(target)
            mosaic.path.with_name(target.name).replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return replace(mosaic, path=output)


def _outputs(output: Path) -> list[Path]:
    return [output, *(companion(output, kind) for kind in MAPS), output.with_suffix(".png")]


def _check_writable(directory: Path) -> None:
    import os

    if not directory.is_dir():
        raise UsageError(f"{directory}: is not a directory; make it first")
    if not os.access(directory, os.W_OK):
        raise UsageError(f"{directory}: may not be written; choose another --output")


def plan_rows(made: MosaicPlan) -> Sequence[dict[str, Any]]:
    """The tiles of a plan with what the gates say, for people and for JSON."""
    reasons = made.gate_reasons()
    return [
        {
            "tile": tile.tile_id,
            "start": tile.start,
            "rms_mjy": round(1e3 * tile.rms_jy, 3),
            "calibration_set": tile.calibration_set_id,
            "gate": reasons.get(tile.tile_id, "passed"),
        }
        for tile in made.tiles
    ]
