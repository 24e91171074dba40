"""Theme 2 on the command line: one stage, or all, on explicit files; the same again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dsa110_contimg import layout
from dsa110_contimg.batch.kinds import Request
from dsa110_contimg.batch.selection import TileSelection
from dsa110_contimg.calibration.options import FieldSolveOptions
from dsa110_contimg.cli.common import (
    CatalogOption,
    JsonOption,
    RootOption,
    SchedulerOption,
    WorkersOption,
    check_picture,
    load_settings,
    print_json,
    with_options,
)
from dsa110_contimg.cli.tables import GATES, print_table
from dsa110_contimg.durable import check_writable, check_writable_file
from dsa110_contimg.errors import UsageError
from dsa110_contimg.options import parse_options
from dsa110_contimg.settings import Settings, pipeline_options
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.stage_options import (
    CalibrationApplyOptions,
    CalibrationSolveOptions,
    ImagingOptions,
    ValidationOptions,
)
from dsa110_contimg.visibilities.options import ConversionOptions
from dsa110_contimg.wording import counted, noise_text

StageOption = Annotated[
    list[str] | None,
    typer.Option("--option", help="STAGE.OPTION=VALUE, such as image.robust=0; may be repeated"),
]
MsArgument = Annotated[Path, typer.Argument(help="Measurement Set")]


def _make(request: Request, settings: Settings, output: Path | None) -> Any:
    """Do what is asked in this process, among the machine's other programs."""
    from dsa110_contimg.batch.workers import working_here
    from dsa110_contimg.cli.progress import busy

    if output is not None:
        check_writable(output)
    call = request.call(settings, output.absolute() if output else None)
    with working_here(settings, map(Path, request.input_paths())), busy(request.kind):
        return call()


@with_options(ConversionOptions)
def convert(
    files: Annotated[
        list[Path], typer.Argument(help="Sub-band files of one observation, or UVFITS or UVH5")
    ],
    output: Annotated[Path, typer.Option(help="Measurement Set to write")],
    options: dict[str, object],
    field: Annotated[
        str | None, typer.Option(help="Field, where a file of another array holds several")
    ] = None,
    dish_diameter: Annotated[
        float | None, typer.Option(help="Metres, where a file of another array does not tell")
    ] = None,
    root: RootOption = None,
) -> None:
    """Convert the sub-band files of one observation, or files of another array."""
    from dsa110_contimg.batch.kinds import ConvertJob

    request = ConvertJob(
        files=[str(path) for path in files],
        field=field,
        dish_diameter=dish_diameter,
        options=options,
    )
    tile = _make(request, load_settings(root=root), output)
    if not tile.n_subbands:
        typer.echo(f"{output}: field at RA {tile.ra_deg:.4f} Dec {tile.dec_deg:.4f}")
        return
    typer.echo(
        f"{output}: tile {tile.tile_id} at RA {tile.ra_deg:.4f} Dec {tile.dec_deg:.4f}, "
        f"{tile.n_subbands} sub-bands; dead antennas: {', '.join(tile.dead_antennas) or 'none'}"
    )
    for warning in tile.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)


@with_options(CalibrationSolveOptions)
def calibrate(
    ms: MsArgument,
    options: dict[str, object],
    output: Annotated[
        Path | None, typer.Option(help="Directory to make (default: a new one in caltables/)")
    ] = None,
    root: RootOption = None,
) -> None:
    """Solve bandpass and gains of a Measurement Set against the sky."""
    from dsa110_contimg.batch.kinds import CalibrateJob
    from dsa110_contimg.executors.fresh import FreshPath

    settings = load_settings(root=root)
    if output is None:
        sets = layout.calibration_sets(settings.root)
        sets.mkdir(parents=True, exist_ok=True)
        target = FreshPath(sets, ms.stem).make()
    else:
        target = output
    solved = _make(CalibrateJob(ms=str(ms), options=options), settings, target)
    typer.echo(
        f"{target}: reference antenna {solved.reference_antenna}, "
        f"{100 * solved.flagged_fraction:.1f} % flagged, median signal-to-noise "
        f"{solved.median_snr:.0f}, {solved.n_model_sources} model sources"
    )


@with_options(CalibrationApplyOptions)
def apply(
    ms: MsArgument,
    tables: Annotated[Path, typer.Option(help="Calibration set (a directory of 'calibrate')")],
    options: dict[str, object],
    output: Annotated[
        Path | None,
        typer.Option(help="Calibrated Measurement Set (default: CORRECTED_DATA in place)"),
    ] = None,
    root: RootOption = None,
) -> None:
    """Apply a calibration set."""
    from dsa110_contimg.batch.kinds import ApplyJob

    request = ApplyJob(ms=str(ms), tables=str(tables), options=options)
    done = _make(request, load_settings(root=root), output)
    typer.echo(
        f"{done.ms_path}: {100 * done.flagged_fraction:.1f} % flagged, phases moved "
        f"{done.phase_rms_deg:.1f} deg, noise {done.noise_jy:.2f} Jy a visibility"
    )


@with_options(FieldSolveOptions)
def calibrate_fields(
    bandpass: Annotated[Path, typer.Argument(help="Measurement Set of the bandpass calibrator")],
    gains: Annotated[
        list[Path], typer.Argument(help="Measurement Sets of calibrators, a primary one among them")
    ],
    output: Annotated[Path, typer.Option(help="Directory to make: K, B and G tables")],
    options: dict[str, object],
) -> None:
    """Solve the calibrators of an array that tracks, and transfer the flux scale."""
    from dsa110_contimg.tasks.field_calibration import solve_fields

    solved = solve_fields(
        bandpass.absolute(),
        [path.absolute() for path in gains],
        output.absolute(),
        parse_options(FieldSolveOptions, options, "calibrate-fields"),
    )
    typer.echo(f"{output}: reference antenna {solved.reference_antenna}")
    for name, (flux, error) in solved.flux_jy.items():
        typer.echo(f"  {name}: {flux:.4f} Jy" + (f" +- {error:.4f}" if error else " (known)"))


def apply_fields(
    tables: Annotated[Path, typer.Argument(help="Directory that calibrate-fields made")],
    ms: MsArgument,
    output: Annotated[Path, typer.Option(help="Measurement Set to write")],
) -> None:
    """Calibrate a field with the tables of calibrate-fields."""
    from dsa110_contimg.tasks.field_calibration import apply_fields as run

    run(tables.absolute(), ms.absolute(), output.absolute())
    typer.echo(output)


@with_options(ImagingOptions)
def image(
    ms: MsArgument,
    output: Annotated[Path, typer.Option(help="Prefix of the files to write")],
    options: dict[str, object],
    column: Annotated[str, typer.Option(help="DATA or CORRECTED_DATA")] = "DATA",
    field: Annotated[
        str | None, typer.Option(help="Field, where the Measurement Set holds several")
    ] = None,
    root: RootOption = None,
) -> None:
    """Image a calibrated Measurement Set, of this or another array."""
    from dsa110_contimg.batch.kinds import ImageJob
    from dsa110_contimg.constants import ARCSEC_RAD

    given = {"ms": str(ms), "column": column, "field": field, "options": options}
    request = parse_options(ImageJob, given, "image")
    made = _make(request, load_settings(root=root), output)
    typer.echo(
        f"{made.file('image')}: {made.size} x {made.size} at {made.cell_arcsec:g} arcsec, beam "
        f"{made.beam_major_rad / ARCSEC_RAD:.1f} x {made.beam_minor_rad / ARCSEC_RAD:.1f} "
        f"arcsec, rms {noise_text(made.rms_jy, made.expected_rms_jy)}, "
        f"peak {made.peak_jy:.4f} Jy/beam"
    )
    for remark in made.remarks:
        typer.echo(f"  {remark}")


@with_options(ValidationOptions)
def validate(
    mosaic_file: Annotated[Path, typer.Argument(help="Mosaic (FITS)")],
    options: dict[str, object],
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a mosaic; exit status 1 if a gate failed."""
    from dsa110_contimg import records
    from dsa110_contimg.batch.kinds import ValidateJob
    from dsa110_contimg.quality.gates import Verdict

    request = ValidateJob(mosaic=str(mosaic_file), options=options)
    result = _make(request, load_settings(root=root), None)
    if as_json:
        print_json(records.to_json(result))
    else:
        typer.echo(f"{mosaic_file}: {result.verdict}")
        print_table(result.gates, GATES)
    if result.verdict is Verdict.FAILED:
        raise typer.Exit(1)


@with_options(CrossmatchOptions)
def crossmatch(
    mosaic_file: Annotated[Path, typer.Argument(help="Mosaic (FITS)")],
    output: Annotated[Path, typer.Option(help="Table to write (FITS)")],
    options: dict[str, object],
    root: RootOption = None,
) -> None:
    """Find the sources of a mosaic and match them with a catalogue."""
    from dsa110_contimg.batch.kinds import CrossmatchJob

    request = CrossmatchJob(mosaic=str(mosaic_file), options=options)
    found = _make(request, load_settings(root=root), output)
    typer.echo(
        f"{output}: {counted(found.n_sources, 'source')}, {found.n_matched} matched, "
        f"{found.n_missing} of the catalogue missing, {found.scale_text()}"
    )


def pipeline(
    files: Annotated[list[Path], typer.Argument(help="Sub-band files, or directories of them")],
    root: RootOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the mosaic (default: streaming's)")
    ] = None,
    sky_catalog: CatalogOption = None,
    option: StageOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
) -> None:
    """All nine stages on explicit sub-band files, once: one mosaic of all their tiles."""
    from dsa110_contimg import records
    from dsa110_contimg.artifacts.mosaics import PublishedMosaic
    from dsa110_contimg.batch.kinds import PipelineJob
    from dsa110_contimg.batch.pipelines import subband_files
    from dsa110_contimg.batch.workers import batch_workers
    from dsa110_contimg.cli.progress import shown
    from dsa110_contimg.pipeline.context import PipelineContext
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(
        root=root, sky_catalog=sky_catalog, workers=workers, scheduler=scheduler
    )
    found = subband_files(files)
    given = {"files": [str(path) for path in files], "name": name, "options": _sections(option)}
    request = parse_options(PipelineJob, given, "pipeline")
    with batch_workers(settings, found) as executor, shown() as progress:
        context = PipelineContext(settings.root, executor=executor, progress=progress)
        made = request.run(settings, Registry.of(settings), context, settings.root)
    published = records.from_json(PublishedMosaic, made)
    typer.echo(f"{'published' if published.published else 'held'}: {published.path}")
    typer.echo(f"report: {published.report}")
    if not published.published:
        typer.secho(f"held because: {published.reason}", fg="yellow", err=True)


def _sections(given: list[str] | None) -> dict[str, dict[str, str]]:
    """Options of stages from STAGE.OPTION=VALUE."""
    sections: dict[str, dict[str, str]] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        stage, dot, option = name.partition(".")
        if not (equals and dot):
            raise UsageError(f"--option {text}: give STAGE.OPTION=VALUE, such as image.robust=0")
        sections.setdefault(stage, {})[option] = value
    return sections


@with_options(TileSelection, "selection")
def reprocess(
    name: Annotated[str, typer.Option(help="Name of the mosaic")],
    output: Annotated[Path, typer.Option(help="Directory to make")],
    selection: dict[str, object],
    option: StageOption = None,
    keep_work: Annotated[
        bool,
        typer.Option("--keep-work", help="Keep calibration, calibrated data and tile images too"),
    ] = False,
    root: RootOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate, image and combine kept Measurement Sets with other options, published nowhere."""
    from dsa110_contimg.batch.kinds import ReprocessJob
    from dsa110_contimg.batch.workers import batch_workers
    from dsa110_contimg.cli.progress import shown
    from dsa110_contimg.pipeline.context import PipelineContext
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root, workers=workers, scheduler=scheduler)
    given = {"name": name, "options": _sections(option), "keep_work": keep_work, **selection}
    request = parse_options(ReprocessJob, given, "reprocess")
    check_writable(output)
    with batch_workers(settings) as executor, shown() as progress:
        context = PipelineContext(settings.root, executor=executor, progress=progress)
        made = request.reprocess(settings, Registry.of(settings), context, output)
    if as_json:
        print_json(made)
        return
    typer.echo(
        f"{made.path}: {counted(made.n_tiles, 'tile')}, median rms {1e3 * made.median_rms_jy:.2f} "
        f"mJy/beam, {made.verdict} {made.reasons}"
    )
    typer.echo(f"report: {made.report}")


def hips(root: RootOption = None) -> None:
    """Draw the HiPS of mosaics that were published since, and take away what is held now."""
    from dsa110_contimg.batch import pipelines
    from dsa110_contimg.batch.workers import batch_workers
    from dsa110_contimg.pipeline.context import PipelineContext
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root, hips=True)
    with batch_workers(settings) as executor:
        context = PipelineContext(settings.root, executor=executor)
        done = pipelines.update_survey(Registry.of(settings), settings, context)
    typer.echo(f"{done.folder}: {len(done.added)} added, {len(done.removed)} taken away")


def compare(
    first: Annotated[str, typer.Argument(help="Published mosaic, or FITS file")],
    second: Annotated[str, typer.Argument(help="The other one, of the same sky")],
    output: Annotated[
        Path | None, typer.Option(help="FITS file for second minus first, with a picture")
    ] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two images: noise, flux densities, positions, difference."""
    from dsa110_contimg import records
    from dsa110_contimg.batch.workers import working_here
    from dsa110_contimg.cli.progress import busy
    from dsa110_contimg.operations import compare as stage

    if output is not None:
        check_writable_file(output)
    settings = load_settings(root=root)
    with working_here(settings), busy("compare"):
        found = stage.compare(
            _image_path(first, settings),
            _image_path(second, settings),
            output.absolute() if output else None,
        )
    if as_json:
        print_json(records.to_json(found))
        return
    typer.echo(
        f"{found.n_pixels} common pixels: rms {1e3 * found.rms_a_jy:.3f} and "
        f"{1e3 * found.rms_b_jy:.3f} mJy/beam; difference rms {1e3 * found.rms_difference_jy:.3g}, "
        f"largest {1e3 * found.largest_difference_jy:.3g} mJy/beam"
    )
    said = f"{counted(found.n_sources, 'source')} above 10 sigma in both"
    if found.n_sources:
        said += (
            f": flux ratio {found.flux_ratio:.4f} +- {found.flux_ratio_error:.4f}, offset "
            f"{found.east_arcsec:+.2f} E {found.north_arcsec:+.2f} N arcsec"
        )
    typer.echo(said)


def _image_path(name: str, settings: Settings) -> Path:
    """A file, or that of a published mosaic."""
    path = Path(name)
    public = layout.published_mosaics(settings.root) / f"{name}.fits"
    if not path.exists() and not public.exists():
        raise UsageError(f"{name}: is neither a file nor a published mosaic")
    return (path if path.exists() else public).absolute()


def reproduce(
    name: Annotated[str, typer.Argument(help="Published mosaic, or file with its .json beside it")],
    directory: Annotated[
        Path | None, typer.Option(help="Empty directory to keep what is made (default: none)")
    ] = None,
    root: RootOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a product again from the deepest inputs still kept; exit status 1 if it differs."""
    import tempfile

    from dsa110_contimg import records
    from dsa110_contimg.batch import reproduce as again
    from dsa110_contimg.batch.workers import batch_workers
    from dsa110_contimg.cli.progress import shown
    from dsa110_contimg.pipeline.context import PipelineContext
    from dsa110_contimg.registry.database import Registry

    settings = load_settings(root=root, workers=workers, scheduler=scheduler)
    if directory is not None:
        check_writable(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UsageError(f"{directory}: is not empty; give another --directory")
    with tempfile.TemporaryDirectory() as scratch, batch_workers(settings) as executor:
        place = (directory or Path(scratch)).absolute()
        with shown() as progress:
            context = PipelineContext(
                place, executor=executor, progress=progress, stage_name="reproduce"
            )
            found = again.reproduce(Registry.of(settings), settings.root, name, context)
    if as_json:
        print_json(records.to_json(found))
    else:
        typer.echo(f"{name}: made again from its {found.made_from}")
        for kind, equal in found.equal.items():
            largest = found.largest_difference.get(kind)
            verdict = "equal" if equal else "differs"
            typer.echo(f"  {kind:10} {verdict}" + (f" by up to {largest:.3g}" if largest else ""))
        for package, versions in found.other_versions.items():
            typer.echo(f"  {package}: {versions}")
    if not found.success:
        raise typer.Exit(1)


def graph(
    drawing: Annotated[
        Path | None, typer.Option("--draw", help="Draw it too: .png, .svg or .pdf")
    ] = None,
    root: RootOption = None,
) -> None:
    """Print the stages, what each needs and makes, and which follows which."""
    from dsa110_contimg.pipeline.orchestrator import PipelineOrchestrator
    from dsa110_contimg.stages import graphs

    check_picture(drawing)
    orchestrator = PipelineOrchestrator(
        graphs.from_subbands(pipeline_options(load_settings(root=root)))
    )
    typer.echo(orchestrator.text())
    if drawing is not None:
        from dsa110_contimg.quality.plots import form_of, stage_graph

        drawing.write_bytes(stage_graph(orchestrator.edges(), form_of(drawing)))
        typer.echo(drawing)
