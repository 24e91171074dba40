"""The two daemons of theme 1."""

from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg import layout
from dsa110_contimg.cli.common import (
    CatalogOption,
    RootOption,
    SchedulerOption,
    VersionOption,
    WorkersOption,
    load_settings,
    run_app,
    setup_logging,
)
from dsa110_contimg.errors import ContimgError, UsageError
from dsa110_contimg.settings import Settings
from dsa110_contimg.times import span
from dsa110_contimg.wording import counted


def convert_stream(
    input_dir: Annotated[Path, typer.Option(help="Directory that sub-band files arrive in")],
    output_dir: Annotated[
        Path | None, typer.Option(help="Directory for Measurement Sets (default: ms/ in the root)")
    ] = None,
    root: RootOption = None,
    poll_interval: Annotated[
        float | None, typer.Option(help="Seconds between looks (default: 5)")
    ] = None,
    grace: Annotated[
        float | None, typer.Option(help="Seconds to wait for absent sub-bands (default: 300)")
    ] = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Take the input as final, finish it, and end")
    ] = False,
    version: VersionOption = False,
) -> None:
    """Watch a directory and convert each observation to a Measurement Set."""
    from dsa110_contimg.executors.local import LocalExecutor
    from dsa110_contimg.executors.memory import share_heaps
    from dsa110_contimg.executors.opening import open_executor
    from dsa110_contimg.executors.priority import Priority
    from dsa110_contimg.streaming import headers
    from dsa110_contimg.streaming.converter import StreamingConverter
    from dsa110_contimg.streaming.daemon import open_registry

    settings = load_settings(
        root=root,
        poll_interval_s=poll_interval,
        grace_s=grace,
        workers=workers,
        scheduler=scheduler,
    )
    setup_logging(settings.log_format)
    share_heaps()
    registry = open_registry(settings, wait=not once)
    executor = open_executor(settings, settings.convert_timeout_s, Priority.CONVERSION)
    header_executor = LocalExecutor(1, settings.slots_dir / "headers", timeout_s=headers.TIMEOUT_S)
    finished = False
    try:
        converter = StreamingConverter(
            input_dir.absolute(),
            (output_dir or layout.measurement_sets(settings.root)).absolute(),
            registry,
            settings,
            executor,
            once=once,
            header_executor=header_executor,
        )
        converter.stop.install()
        converter.run()
        finished = not converter.stop
        if once and converter.n_failed:
            raise ContimgError(f"{converter.n_failed} tiles failed; see 'dsa110-contimg status'")
    finally:
        executor.close(wait=finished and once)
        header_executor.close(wait=False)
        registry.close()


def streaming_mosaic(
    root: RootOption = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Run until interrupted; without it, one pass")
    ] = False,
    interval: Annotated[
        float | None, typer.Option(help="Seconds between looks for groups (default: 60)")
    ] = None,
    sky_catalog: CatalogOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="One pass (the default without --loop)")
    ] = False,
    version: VersionOption = False,
) -> None:
    """Form groups of ten tiles and make, check and publish their mosaics."""
    from dsa110_contimg.executors.memory import share_heaps
    from dsa110_contimg.executors.opening import open_executor
    from dsa110_contimg.executors.priority import Priority
    from dsa110_contimg.registry.groups import count_after_groups
    from dsa110_contimg.streaming.daemon import open_registry
    from dsa110_contimg.streaming.mosaics import StreamingMosaicManager

    if loop and once:
        raise UsageError("--loop and --once exclude each other")
    settings = load_settings(
        root=root,
        mosaic_interval_s=interval,
        sky_catalog=sky_catalog,
        workers=workers,
        scheduler=scheduler,
    )
    setup_logging(settings.log_format)
    share_heaps()
    registry = open_registry(settings, wait=loop)
    executor = open_executor(settings, settings.stage_timeout_s, Priority.STREAMING)
    finished = False
    try:
        manager = StreamingMosaicManager(registry, settings, executor, once=not loop)
        manager.stop.install()
        manager.run()
        finished = not manager.stop
        for mosaic in manager.finished:
            typer.echo(mosaic.path)
        with registry.read() as session:
            waiting = 0 if loop else count_after_groups(session)
        if waiting:
            typer.echo(ungrouped_text(waiting, settings), err=True)
        if not loop and manager.n_failed:
            raise ContimgError(f"{manager.n_failed} groups failed; see 'dsa110-contimg status'")
    finally:
        executor.close(wait=finished and not loop)
        registry.close()


def ungrouped_text(number: int, settings: Settings) -> str:
    """Describe tiles after the newest group, and when they become one."""
    return (
        f"{counted(number, 'tile')} after the newest group; they become one with more tiles, or "
        f"{span(settings.leftover_s)} after the last arrival, a short one"
    )


def _single(command: object) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)  # type: ignore[type-var]
    return app


def convert_stream_main() -> None:
    """Entry point of dsa110-contimg-convert-stream."""
    run_app(_single(convert_stream))


def streaming_mosaic_main() -> None:
    """Entry point of dsa110-contimg-streaming-mosaic."""
    run_app(_single(streaming_mosaic))
