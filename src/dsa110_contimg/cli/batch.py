"""Theme 2 on the command line: plan, build, and one stage on explicit files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dsa110_contimg.cli.common import (
    CatalogOption,
    JsonOption,
    RootOption,
    WorkersOption,
    iso,
    load_settings,
    parse_time,
    print_json,
    run_app,
    with_options,
)
from dsa110_contimg.errors import UsageError
from dsa110_contimg.mosaicking import Method
from dsa110_contimg.stages.options import (
    CalibrationApplyOptions,
    CalibrationSolveOptions,
    ConversionOptions,
    CrossmatchOptions,
    FieldCalibrationOptions,
    ImagingOptions,
    ValidationOptions,
    parse_options,
)

MsArgument = Annotated[Path, typer.Argument(help="Measurement Set")]
mosaic = typer.Typer(
    name="dsa110-contimg-mosaic",
    help="Mosaics of chosen tiles: plan first, then build exactly that.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def mosaic_main() -> None:
    """Entry point of dsa110-contimg-mosaic."""
    run_app(mosaic)


@mosaic.command("plan")
def plan(
    name: Annotated[str, typer.Option(help="Name of the plan")],
    since: Annotated[
        str | None, typer.Option(help="First observation time: Unix seconds or ISO")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last observation time")] = None,
    method: Annotated[Method, typer.Option(help="How tiles are combined")] = "mean",
    include_uncorrected: Annotated[
        bool, typer.Option("--include-uncorrected", help="Take tiles without beam correction too")
    ] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose tiles by observation time and store the plan."""
    from dsa110_contimg.batch import plans
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root)
    made = plans.plan(
        Registry(settings.database), name, parse_time(since), parse_time(until), method,
        include_uncorrected,
    )  # fmt: skip
    rows = plans.plan_rows(made)
    if as_json:
        print_json({"name": name, "method": method, "tiles": rows})
        return
    typer.echo(f"plan {name}: {len(rows)} tiles, method {method}")
    for row in rows:
        typer.echo(
            f"  {row['tile']}  {iso(row['start'])}  rms {row['rms_mjy']:.2f} mJy  {row['gate']}"
        )


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
    from dsa110_contimg.batch import plans
    from dsa110_contimg.registry import records
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root)
    made = plans.load_plan(Registry(settings.database), name)
    target = output.absolute()
    if dry_run:
        tiles = plans.check_build(made, target, overwrite)
        typer.echo(f"would combine {len(tiles)} tiles ({made.method}) into {target}")
        return
    built = plans.build(made, target, overwrite)
    if as_json:
        print_json(records.to_json(built))
        return
    typer.echo(f"{target}: {len(built.tile_ids)} tiles, {made.method}")
    for tile, reason in built.left_out.items():
        typer.echo(f"  left out {tile}: {reason}")


@mosaic.command("list")
def mosaic_list(root: RootOption = None, as_json: JsonOption = False) -> None:
    """List the mosaics of the database, newest first."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.queries import mosaics

    rows = mosaics(Registry(load_settings(root=root).database))
    if as_json:
        print_json(rows)
    for row in [] if as_json else rows:
        typer.echo(
            f"{row['name']}  {iso(row['start'])}  {row['tiles']} tiles  {row['method']}  "
            f"{row['state']}  {row['verdict']}"
        )


@mosaic.command("show")
def mosaic_show(
    name: Annotated[str, typer.Argument(help="Mosaic")],
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a mosaic: its gates, tiles and files."""
    from dsa110_contimg.registry.database import Registry
    from dsa110_contimg.registry.queries import mosaic as find_mosaic

    found = find_mosaic(Registry(load_settings(root=root).database), name)
    if as_json:
        print_json(found)
        return
    made = found["record"]["mosaic"]
    typer.echo(f"{name}: {found['state']}, {found['verdict']}")
    typer.echo(
        f"  {iso(made['start'])} to {iso(made['end'])} UTC, {made['method']}, median rms "
        f"{1e3 * made['median_rms_jy']:.2f} mJy/beam over {made['observed_deg2']:.1f} deg2"
    )
    for gate in found["record"]["validation"]["gates"]:
        typer.echo(
            f"  {gate['verdict']:8}{gate['name']:16}{float(gate['value']):10.4g}  {gate['limit']}"
            + (f" ({gate['note']})" if gate["note"] else "")
        )
    for tile in made["tile_ids"]:
        typer.echo(f"  tile {tile}")
    for tile, reason in made["left_out"].items():
        typer.echo(f"  left out {tile}: {reason}")
    for product in found["products"]:
        typer.echo(f"  {product['kind']:12} {product['path']}")


@with_options(ConversionOptions)
def convert(
    files: Annotated[
        list[Path], typer.Argument(help="Sub-band files of one observation, or UVFITS or UVH5")
    ],
    output: Annotated[Path, typer.Option(help="Measurement Set to write")],
    options: dict[str, Any],
    field: Annotated[
        str | None, typer.Option(help="Field, where a file of another array holds several")
    ] = None,
    dish_diameter: Annotated[
        float | None, typer.Option(help="Metres, where a file of another array does not tell")
    ] = None,
) -> None:
    """Convert the sub-band files of one observation, or files of another array."""
    from dsa110_contimg.stages.conversion import convert as run
    from dsa110_contimg.stages.conversion import convert_foreign
    from dsa110_contimg.telescope import DSA110
    from dsa110_contimg.visibilities.uvh5 import is_drift_scan

    given = [f.absolute() for f in files]
    if any(path.exists() and not is_drift_scan(path) for path in given):
        made = convert_foreign(given, output.absolute(), field, dish_diameter)
        typer.echo(f"{output}: field at RA {made.ra_deg:.4f} Dec {made.dec_deg:.4f}")
        return
    tile = run(
        given, output.absolute(), DSA110, parse_options(ConversionOptions, options, "convert")
    )
    typer.echo(
        f"{output}: tile {tile.tile_id} at RA {tile.ra_deg:.4f} Dec {tile.dec_deg:.4f}, "
        f"{tile.n_subbands} sub-bands; dead antennas: {', '.join(tile.dead_antennas) or 'none'}"
    )
    for warning in tile.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)


@with_options(CalibrationSolveOptions)
def calibrate(
    ms: MsArgument,
    options: dict[str, Any],
    output: Annotated[
        Path | None, typer.Option(help="Directory to make (default: a new one in caltables/)")
    ] = None,
    root: RootOption = None,
) -> None:
    """Solve bandpass and gains of a Measurement Set against the sky."""
    from dsa110_contimg.pipeline.fresh import FreshPath
    from dsa110_contimg.stages import calibration_solve
    from dsa110_contimg.stages.conversion import describe

    settings = load_settings(root=root)
    tile = describe(ms.absolute())
    target = (
        output.absolute() if output else FreshPath(settings.root / "caltables", tile.tile_id).make()
    )
    if target.exists():
        raise UsageError(f"{target}: exists already; choose another --output")
    solved = calibration_solve.solve(
        tile, target, settings.root,
        parse_options(
            CalibrationSolveOptions,
            {"sky_catalog": settings.sky_catalog, **settings.calibrate, **options}, "calibrate",
        ),
    )  # fmt: skip
    typer.echo(
        f"{target}: reference antenna {solved.reference_antenna}, "
        f"{100 * solved.flagged_fraction:.1f} % flagged, median signal-to-noise "
        f"{solved.median_snr:.0f}, {solved.n_model_sources} model sources"
    )


@with_options(CalibrationApplyOptions)
def apply(
    ms: MsArgument,
    tables: Annotated[Path, typer.Option(help="Calibration set (a directory of 'calibrate')")],
    options: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option(help="Calibrated Measurement Set (default: CORRECTED_DATA in place)"),
    ] = None,
    root: RootOption = None,
) -> None:
    """Apply a calibration set."""
    from dsa110_contimg.stages import calibration_apply
    from dsa110_contimg.stages.calibration_solve import load_set
    from dsa110_contimg.stages.conversion import describe

    settings = load_settings(root=root)
    sky = {"sky_catalog": settings.sky_catalog}
    given = {**sky, **settings.calibrate, **settings.apply, **options}
    done = calibration_apply.apply(
        describe(ms.absolute()), load_set(tables.absolute()),
        output.absolute() if output else None, settings.root,
        parse_options(CalibrationApplyOptions, given, "apply"),
    )  # fmt: skip
    typer.echo(
        f"{done.ms_path}: {100 * done.flagged_fraction:.1f} % flagged, phases moved "
        f"{done.phase_rms_deg:.1f} deg, noise {done.noise_jy:.2f} Jy a visibility"
    )


@with_options(FieldCalibrationOptions)
def calibrate_fields(
    bandpass: Annotated[Path, typer.Argument(help="Measurement Set of the bandpass calibrator")],
    gains: Annotated[
        list[Path], typer.Argument(help="Measurement Sets of calibrators, a primary one among them")
    ],
    output: Annotated[Path, typer.Option(help="Directory to make: K, B and G tables")],
    options: dict[str, Any],
) -> None:
    """Solve the calibrators of an array that tracks, and transfer the flux scale."""
    from dsa110_contimg.stages.field_calibration import solve_fields

    solved = solve_fields(
        bandpass.absolute(), [path.absolute() for path in gains], output.absolute(),
        parse_options(FieldCalibrationOptions, options, "calibrate-fields"),
    )  # fmt: skip
    typer.echo(f"{output}: reference antenna {solved.reference_antenna}")
    for name, (flux, error) in solved.flux_jy.items():
        typer.echo(f"  {name}: {flux:.4f} Jy" + (f" +- {error:.4f}" if error else " (known)"))


def apply_fields(
    tables: Annotated[Path, typer.Argument(help="Directory that calibrate-fields made")],
    ms: MsArgument,
    output: Annotated[Path, typer.Option(help="Measurement Set to write")],
) -> None:
    """Calibrate a field with the tables of calibrate-fields."""
    from dsa110_contimg.stages.field_calibration import apply_fields as run

    run(tables.absolute(), ms.absolute(), output.absolute())
    typer.echo(output)


@with_options(ImagingOptions)
def image(
    ms: MsArgument,
    output: Annotated[Path, typer.Option(help="Prefix of the files to write")],
    options: dict[str, Any],
    column: Annotated[str, typer.Option(help="DATA or CORRECTED_DATA")] = "DATA",
    field: Annotated[
        str | None, typer.Option(help="Field, where the Measurement Set holds several")
    ] = None,
    root: RootOption = None,
) -> None:
    """Image a calibrated Measurement Set, of this or another array."""
    from dsa110_contimg.stages import imaging
    from dsa110_contimg.telescope import ARCSEC_PER_RAD

    settings = load_settings(root=root)
    given = {"sky_catalog": settings.sky_catalog, **settings.image, **options}
    made = imaging.image(
        ms.absolute(), output.absolute(), settings.root,
        parse_options(ImagingOptions, given, "image"), column=column, field=field,
    )  # fmt: skip
    typer.echo(
        f"{made.file('image')}: {made.size} x {made.size} at {made.cell_arcsec:g} arcsec, beam "
        f"{made.beam_major_rad * ARCSEC_PER_RAD:.1f} x {made.beam_minor_rad * ARCSEC_PER_RAD:.1f} "
        f"arcsec, rms {1e3 * made.rms_jy:.3f} mJy/beam, peak {made.peak_jy:.4f} Jy/beam"
    )
    for remark in made.remarks:
        typer.echo(f"  {remark}")


@with_options(ValidationOptions)
def validate(
    mosaic_file: Annotated[Path, typer.Argument(help="Mosaic (FITS)")],
    options: dict[str, Any],
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a mosaic; exit status 1 if a gate failed."""
    from dsa110_contimg.quality.gates import Verdict
    from dsa110_contimg.registry import records
    from dsa110_contimg.stages import validation

    settings = load_settings(root=root)
    given = {"sky_catalog": settings.sky_catalog, **settings.validate_, **options}
    result = validation.validate(
        mosaic_file.absolute(), settings.root, parse_options(ValidationOptions, given, "validate")
    )
    if as_json:
        print_json(records.to_json(result))
    else:
        typer.echo(f"{mosaic_file}: {result.verdict}")
        for gate in result.gates:
            typer.echo(
                f"  {gate.verdict:8} {gate.name}: {gate.value:.4g}  ({gate.limit}) {gate.note}"
            )
    if result.verdict is Verdict.FAILED:
        raise typer.Exit(1)


@with_options(CrossmatchOptions)
def crossmatch(
    mosaic_file: Annotated[Path, typer.Argument(help="Mosaic (FITS)")],
    output: Annotated[Path, typer.Option(help="Table to write (FITS)")],
    options: dict[str, Any],
    root: RootOption = None,
) -> None:
    """Find the sources of a mosaic and match them with a catalogue."""
    from dsa110_contimg.stages.crossmatch import crossmatch as run

    settings = load_settings(root=root)
    given = {"sky_catalog": settings.sky_catalog, **settings.crossmatch, **options}
    found = run(
        mosaic_file.absolute(), output.absolute(), settings.root,
        parse_options(CrossmatchOptions, given, "crossmatch"),
    )  # fmt: skip
    typer.echo(
        f"{output}: {found.n_sources} sources, {found.n_matched} matched, {found.n_missing} of the "
        f"catalogue missing, median flux ratio {found.flux_ratio:.3f}"
    )


def pipeline(
    files: Annotated[list[Path], typer.Argument(help="Sub-band files, or directories of them")],
    root: RootOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the mosaic (default: streaming's)")
    ] = None,
    sky_catalog: CatalogOption = None,
    workers: WorkersOption = None,
) -> None:
    """All nine stages on explicit sub-band files, once: one mosaic of all their tiles."""
    from dsa110_contimg.batch import pipelines
    from dsa110_contimg.cli.progress import shown
    from dsa110_contimg.pipeline.context import PipelineContext
    from dsa110_contimg.pipeline.executors import LocalExecutor
    from dsa110_contimg.stages.options import options_from

    settings = load_settings(root=root, sky_catalog=sky_catalog, workers=workers)
    inputs = {"name": name} if name else {}
    found = pipelines.subband_files(files)
    with LocalExecutor(settings.workers, settings.slots_dir) as executor, shown() as progress:
        context = PipelineContext(settings.root, inputs, executor=executor, progress=progress)
        result = pipelines.run_pipeline(found, options_from(settings), context)
    published = result["published"]
    typer.echo(f"{'published' if published.published else 'held'}: {published.path}")
    typer.echo(f"report: {published.report}")
    if not published.published:
        typer.secho(f"held because: {published.reason}", fg="yellow", err=True)
