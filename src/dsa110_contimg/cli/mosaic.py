"""Mosaics of chosen tiles on the command line: plan, build, list."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_contimg.batch.selection import Selection
from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    VersionOption,
    load_settings,
    print_json,
    run_app,
    with_options,
)
from dsa110_contimg.cli.tables import GATES, Column, present, print_table
from dsa110_contimg.durable import check_writable
from dsa110_contimg.errors import UsageError
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.options import parse_options
from dsa110_contimg.settings import stage_options
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted, noise_text

if TYPE_CHECKING:
    from dsa110_contimg.batch.plans import MosaicPlan, PlannedTile
    from dsa110_contimg.registry.mosaics import MosaicSummary, ProductFile
    from dsa110_contimg.registry.plans import PlanSummary

_PLANS: "tuple[Column[PlanSummary], ...]" = (
    Column("plan", lambda row: row.name),
    Column("made (UTC)", lambda row: iso(row.created)),
    Column("tiles", lambda row: str(row.tiles), True),
    Column("method", lambda row: row.method),
)
_PLANNED: "tuple[Column[PlannedTile], ...]" = (
    Column("tile", lambda row: row.tile),
    Column("observed (UTC)", lambda row: iso(row.start)),
    Column("rms (mJy/beam)", lambda row: f"{row.rms_mjy:.2f}", True),
    Column("gate", lambda row: row.gate),
)
_MOSAICS: "tuple[Column[MosaicSummary], ...]" = (
    Column("mosaic", lambda row: row.name),
    Column("observed (UTC)", lambda row: iso(row.start)),
    Column("tiles", lambda row: str(row.tiles), True),
    Column("method", lambda row: row.method),
    Column("state", lambda row: row.state),
    Column("verdict", lambda row: row.verdict),
    Column("made by", lambda row: row.made_by),
)
_FILES: "tuple[Column[ProductFile], ...]" = (
    Column("product", lambda row: row.kind),
    Column("size (MB)", lambda row: f"{row.size / 1e6:.2f}", True),
    Column("path", lambda row: str(row.path)),
)

mosaic = typer.Typer(
    name="dsa110-contimg-mosaic",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@mosaic.callback()
def _options(version: VersionOption = False) -> None:
    """Mosaics of chosen tiles: plan first, then build exactly that."""


def mosaic_main() -> None:
    """Entry point of dsa110-contimg-mosaic."""
    run_app(mosaic)


@mosaic.command("plan")
@with_options(MosaicOptions)
@with_options(Selection, "selection")
def plan(
    name: Annotated[str, typer.Option(help="Name of the plan")],
    selection: dict[str, object],
    options: dict[str, object],
    file: Annotated[
        Path | None,
        typer.Option(help="Plan exactly what an edited document of 'plans NAME --json' names"),
    ] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose imaged tiles and store the plan: all history, unless options say less."""
    from dsa110_contimg.batch.workers import step_back

    step_back()
    from dsa110_contimg.batch import plans
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root)
    registry = Registry.of(settings, create=False)
    if file is not None:
        if selection or options:
            raise UsageError("--file holds selection and options; give no others")
        made = plans.plan_from_document(registry, name, _read_json(file))
    else:
        made = plans.plan(
            registry,
            name,
            parse_options(Selection, selection, "selection"),
            stage_options(settings, MosaicOptions, "mosaic", options),
        )
    _show_plan(made, as_json)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error})") from error


def _show_plan(made: "MosaicPlan", as_json: bool) -> None:
    from dsa110_contimg import records
    from dsa110_contimg.batch import plans

    rows = plans.plan_rows(made)
    depth = plans.predicted_depth(made)
    if as_json:
        predicted = None if depth is None else records.to_json(depth)
        print_json({"name": made.name, "tiles": rows, "predicted": predicted})
        return
    typer.echo(f"plan {made.name}: {counted(len(rows), 'tile')}, method {made.options.method}")
    if rows:
        print_table(rows, _PLANNED)
    if depth is not None:
        typer.echo(
            f"predicted: median rms {1e3 * depth.median_rms_jy:.2f} mJy/beam, best "
            f"{1e3 * depth.best_rms_jy:.2f}, over {depth.observed_deg2:.1f} deg2"
        )


@mosaic.command("plans")
def plans_command(
    name: Annotated[str | None, typer.Argument(help="Plan to show (default: list all)")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Forget it; its inputs are no longer kept for it")
    ] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the stored plans, or show one; with --json a document to edit for 'plan --file'."""
    from dsa110_contimg.batch import plans
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.plans import list_plans

    registry = Registry.of(load_settings(root=root), create=False)
    if name is None:
        present(list_plans(registry), _PLANS, "no plans", as_json=as_json)
        return
    if delete:
        plans.delete_plan(registry, name)
        typer.echo(f"plan {name}: forgotten")
        return
    made = plans.load_plan(registry, name)
    if as_json:
        print_json(plans.as_document(made))
    else:
        _show_plan(made, False)


@mosaic.command("build")
def build(
    name: Annotated[str, typer.Option(help="Name of the plan")],
    output: Annotated[Path, typer.Option(help="File to write: NAME.fits or NAME.image")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, write nothing")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that exists")
    ] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a planned mosaic."""
    from dsa110_contimg.batch.workers import step_back, working_here

    step_back()
    from dsa110_contimg import records
    from dsa110_contimg.batch import plans
    from dsa110_contimg.cli.progress import busy
    from dsa110_contimg.registry.database import Registry

    check_writable(output)
    settings = load_settings(root=root)
    made = plans.load_plan(Registry.of(settings, create=False), name)
    target = output.absolute()
    if dry_run:
        tiles = plans.check_build(made, target, overwrite)
        what = counted(len(tiles), "tile")
        typer.echo(f"would combine {what} ({made.options.method}) into {target}")
        return
    with working_here(settings), busy(f"mosaic {name}"):
        built = plans.build(made, target, overwrite)
    if as_json:
        print_json(records.to_json(built))
        return
    typer.echo(f"{target}: {counted(len(built.tile_ids), 'tile')}, {made.options.method}")
    for tile, reason in built.left_out.items():
        typer.echo(f"  left out {tile}: {reason}")


@mosaic.command("list")
def mosaic_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the mosaics of the database, newest first."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.mosaics import list_mosaics

    rows = list_mosaics(Registry.of(load_settings(root=root), create=False))
    present(rows, _MOSAICS, "no mosaics", as_json=as_json)


@mosaic.command("show")
def mosaic_show(
    name: Annotated[str, typer.Argument(help="Mosaic")],
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a mosaic: its gates, tiles and files."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.mosaics import get_mosaic

    found = get_mosaic(Registry.of(load_settings(root=root), create=False), name)
    if as_json:
        print_json(found)
        return
    made = found.record.mosaic
    typer.echo(f"{name}: {found.state}, {found.verdict}")
    if found.decision is not None:
        typer.echo(f"  {iso(found.decision.at)} UTC: {found.decision.message}")
    typer.echo(
        f"  {iso(made.start)} to {iso(made.end)} UTC, {made.method}, median rms "
        f"{noise_text(made.median_rms_jy, made.expected_rms_jy)} over {made.observed_deg2:.1f} deg2"
    )
    print_table(found.record.validation.gates, GATES)
    typer.echo(f"tiles: {', '.join(made.tile_ids)}")
    for tile, reason in made.left_out.items():
        typer.echo(f"  left out {tile}: {reason}")
    if found.products:
        print_table(found.products, _FILES)
