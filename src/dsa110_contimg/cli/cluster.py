"""Scheduler and workers of a cluster of one's own machines."""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from dsa110_contimg.cli.common import RootOption, load_settings, setup_logging
from dsa110_contimg.errors import UsageError

log = structlog.get_logger()

_AGAIN_S = 5.0


def scheduler(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, help="Port to listen on")] = 8786,
    root: RootOption = None,
) -> None:
    """Run the scheduler of a cluster; makes its keys in state/tls if there are none."""
    settings = load_settings(root=root)
    setup_logging(settings.log_format)
    _prepare_dask()
    from distributed import Scheduler

    from dsa110_contimg.executors.cluster.security import make_keys, security

    make_keys(settings.tls_dir)

    async def run() -> None:
        stop = _stop_by_signal()
        async with Scheduler(
            host=host,
            port=port,
            protocol="tls",
            security=security(settings.tls_dir),
            dashboard=False,
            dashboard_address="127.0.0.1:0",
            # Calls need no extension of Dask, and one of them records all work without limit.
            extensions={},
        ) as running:
            log.info("scheduler listens", address=running.address)
            await _first(stop.wait(), running.finished())

    asyncio.run(run())


def worker(
    scheduler: Annotated[
        str | None, typer.Option(help="tls://HOST:PORT (default: executor.scheduler)")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Calls that compute at once (default: its cores)")
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option(min=0, help="Memory they may take (default: this machine's)")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Directory on a local disk (default: the system's)")
    ] = None,
    own_disk: Annotated[
        Path | None,
        typer.Option(
            help="Directory on this machine's own disk to keep Measurement Sets in: what "
            "reads them runs here"
        ),
    ] = None,
    root: RootOption = None,
) -> None:
    """Compute for a scheduler, until stopped; waits for one that is away."""
    settings = load_settings(root=root, scheduler=scheduler)
    setup_logging(settings.log_format)
    _prepare_dask()
    from distributed import Worker

    from dsa110_contimg.executors import own_disk as own_disks
    from dsa110_contimg.executors.cluster.host import Host
    from dsa110_contimg.executors.cluster.security import security

    if own_disk is not None:
        own_disks.use(own_disk, settings.disk_stop_gb)

    address = settings.executor.scheduler
    if not address:
        raise UsageError(
            "no scheduler is given: --scheduler, or executor.scheduler in the settings"
        )
    keys = security(settings.tls_dir)

    async def serve() -> None:
        async with Worker(
            address,
            nthreads=slots or os.cpu_count() or 1,
            security=keys,
            protocol="tls",
            memory_limit=memory_gb * 1e9 if memory_gb else "auto",
            local_directory=str(scratch) if scratch else None,
            dashboard_address="127.0.0.1:0",
            plugins=(Host(),),
            extensions={},
        ) as running:
            log.info("worker joined", scheduler=address, worker=running.address)
            await running.finished()

    async def run() -> None:
        stop = _stop_by_signal()
        log.info("looking for the scheduler", scheduler=address)
        while not stop.is_set():
            try:
                await _first(stop.wait(), serve())
            except (TimeoutError, OSError, RuntimeError) as error:
                log.warning("waiting for the scheduler", scheduler=address, error=str(error))
            if not stop.is_set():
                await _first(stop.wait(), asyncio.sleep(_AGAIN_S))

    asyncio.run(run())


def _prepare_dask() -> None:
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError as error:
        wanted = "pip install 'dsa110-contimg[cluster]'"
        raise UsageError(f"a cluster needs the extra: {wanted}") from error
    # Whoever runs it may set otherwise, by DASK_DISTRIBUTED__... or Dask's own files.
    from dsa110_contimg.executors.cluster.security import DASK

    dask.config.update_defaults(DASK)
    logging.getLogger("distributed").setLevel(logging.WARNING)


def _stop_by_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _first(*waits: Any) -> None:
    """Wait until one of several is done, end the others, and raise what went wrong."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
