"""Batch mosaics: `plan` chooses tiles and writes down which, `build` makes exactly that."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from dsa110_contimg import records
from dsa110_contimg.artifacts.mosaics import MAPS, MosaicImage, companion
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.batch.placing import aside, move
from dsa110_contimg.batch.selection import Selection
from dsa110_contimg.batch.tiles import choose
from dsa110_contimg.durable import check_writable
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.imaging.fits_image import write_casa_image
from dsa110_contimg.mosaicking import gates
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.options import parse_options
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.products import provenance
from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry import plans
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.read_models import ReadModel
from dsa110_contimg.tasks.mosaic import build_mosaic
from dsa110_contimg.tasks.mosaic_depth import Depth, predict_depth
from dsa110_contimg.tasks.tile_selection import facts, select_tiles

SUFFIXES = (".fits", ".image")
_DOCUMENT = {"name", "selection", "options", "tiles"}


@dataclass(frozen=True)
class MosaicPlan:
    """What a mosaic will be made of.

    Attributes
    ----------
    name : str
    selection : Selection
        What was asked for.
    options : MosaicOptions
        How tiles are combined, and what the gates ask of them.
    tiles : tuple of ImagedTile
        What was found, in order of time.
    """

    name: str
    selection: Selection
    options: MosaicOptions
    tiles: tuple[ImagedTile, ...]

    def gate_reasons(self) -> dict[str, str]:
        """Tiles that a gate will leave out, and why."""
        return gates.tile_gates([facts(tile) for tile in self.tiles], self.options)


def plan(
    registry: Registry,
    name: str,
    selection: Selection | None = None,
    options: MosaicOptions | None = None,
) -> MosaicPlan:
    """Choose tiles and store the plan; a plan of the same name is replaced.

    Parameters
    ----------
    registry : Registry
    name : str
    selection : Selection, optional
        Default: all history, beam-corrected.
    options : MosaicOptions, optional

    Raises
    ------
    NothingToDo, UsageError
        As `draft` does.
    """
    made = draft(registry, name, selection, options)
    plans.save_plan(registry, name, records.to_json(made))
    return made


def draft(
    registry: Registry,
    name: str,
    selection: Selection | None = None,
    options: MosaicOptions | None = None,
) -> MosaicPlan:
    """Choose tiles; nothing is stored.

    Raises
    ------
    NothingToDo
        If no image is as the selection asks.
    UsageError
        For a name that cannot be a file's, or a named tile that is not there.
    """
    selection, options = selection or Selection(), options or MosaicOptions()
    if not name or "/" in name or name.startswith("."):
        raise UsageError(f"plan name {name!r}: give a name without '/' and not beginning with '.'")
    tiles = choose(registry, selection)
    if not tiles:
        raise NothingToDo(
            "no imaged tile is as the selection asks; process sub-band files first, or ask for "
            "less (--since, --until, ...)"
        )
    if selection.include_uncorrected:
        options = options.model_copy(update={"include_uncorrected": True})
    return MosaicPlan(name, selection, options, tuple(tiles))


def predicted_depth(plan: MosaicPlan) -> Depth | None:
    """Noise that the mosaic will have; None if no tile passes the gates.

    Raises
    ------
    BadInputError
        If a tile's files are gone.
    """
    try:
        return predict_depth(plan.tiles, plan.options)
    except NothingToDo:
        return None


def as_document(made: MosaicPlan) -> JsonObject:
    """A plan for a person to read and edit: tiles by their names."""
    return {
        "name": made.name,
        "selection": made.selection.model_dump(mode="json", exclude_defaults=True),
        "options": made.options.model_dump(mode="json"),
        "tiles": [tile.tile_id for tile in made.tiles],
    }


def plan_from_document(registry: Registry, name: str, document: object) -> MosaicPlan:
    """Store a plan of exactly the tiles that an edited document names.

    Where a tile has several images, the document's selection decides as it does in `plan`.

    Raises
    ------
    UsageError
        Naming what is wrong in it.
    """
    if not isinstance(document, dict) or not {"tiles"} <= document.keys() <= _DOCUMENT:
        raise UsageError(f"a plan is an object with {', '.join(sorted(_DOCUMENT))}")
    of_image = {"calibration_set", "include_uncorrected", "max_rms_mjy"}
    asked = document.get("selection") or {}
    wanted = {key: value for key, value in asked.items() if key in of_image}
    selection = parse_options(Selection, {**wanted, "tiles": document["tiles"]}, "selection")
    options = parse_options(MosaicOptions, document.get("options") or {}, "options")
    return plan(registry, name, selection, options)


def delete_plan(registry: Registry, name: str) -> None:
    """Forget a plan; housekeeping may take its inputs then.

    Raises
    ------
    UsageError
    """
    load_plan(registry, name)
    plans.delete_plan(registry, name)


def load_plan(registry: Registry, name: str) -> MosaicPlan:
    """A stored plan.

    Raises
    ------
    UsageError
    """
    row = plans.find_plan(registry, name)
    if row is None:
        known = ", ".join(sorted(one.name for one in plans.list_plans(registry))) or "none"
        raise UsageError(
            f"no plan {name!r} (there: {known}); make it with "
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
    check_writable(output)
    existing = [path for path in outputs(output) if path.exists()]
    if existing and not overwrite:
        raise UsageError(f"{existing[0]}: exists already; choose another --output or --overwrite")
    for tile in made.tiles:
        for kind in ("image", "pb"):
            if not tile.file(kind).exists():
                raise UsageError(f"{tile.file(kind)}: an input of the plan is gone; plan again")
    return select_tiles(made.tiles, made.options)[0]


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
    check_build(made, output, overwrite)
    context = context or PipelineContext(output.parent)
    with aside(output) as scratch:
        combination = call(
            build_mosaic,
            images=made.tiles,
            output=fresh_path(scratch, "made", inside=f"{output.stem}.fits"),
            name=made.name,
            options=made.options,
        )
        mosaic = context.compute(combination, "mosaic")
        if output.suffix == ".image":
            write_casa_image(mosaic.path.with_name(output.name), mosaic.path)
        trail = _provenance(made, replace(mosaic, path=output))
        mosaic.path.with_suffix(".json").write_text(json.dumps(trail, indent=1))
        move({mosaic.path.with_name(one.name): one for one in outputs(output)}, overwrite)
    return replace(mosaic, path=output)


def _provenance(made: MosaicPlan, mosaic: MosaicImage) -> JsonObject:
    """What the mosaic was made of, as `reproduce` reads it."""
    return provenance.record(
        {tile.tile_id: tile.file("image") for tile in made.tiles},
        {"mosaic": made.options.model_dump(mode="json")},
        product=made.name,
        again=f"dsa110-contimg reproduce {mosaic.path}",
        plan=as_document(made),
        tiles=list(mosaic.tile_ids),
        left_out=mosaic.left_out,
        calibration_sets=list(mosaic.calibration_set_ids),
        mosaic=records.to_json(mosaic),
        images=[records.to_json(tile) for tile in made.tiles],
        calibrated=[],
        calibration_set=None,
        manual_flags=[],
    )


def outputs(output: Path) -> list[Path]:
    """Files of a mosaic: image, maps, picture and provenance."""
    beside = [output.with_suffix(".png"), output.with_suffix(".json")]
    return [output, *(companion(output, kind) for kind in MAPS), *beside]


class PlannedTile(ReadModel):
    """A tile of a plan with what the gates say."""

    tile: str
    start: float
    rms_mjy: float
    calibration_set: str
    gate: str


def plan_rows(made: MosaicPlan) -> list[PlannedTile]:
    """The tiles of a plan with what the gates say."""
    reasons = made.gate_reasons()
    return [
        PlannedTile(
            tile=tile.tile_id,
            start=tile.start,
            rms_mjy=round(1e3 * tile.rms_jy, 3),
            calibration_set=tile.calibration_set_id,
            gate=reasons.get(tile.tile_id, "passed"),
        )
        for tile in made.tiles
    ]
