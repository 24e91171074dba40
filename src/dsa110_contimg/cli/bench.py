"""How fast this is on the user's own machines."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg.cli.common import (
    JsonOption,
    RootOption,
    SchedulerOption,
    load_settings,
    print_json,
)
from dsa110_contimg.errors import UsageError


def scale(
    workers: Annotated[
        str | None,
        typer.Option(help="Calls at once, comma-separated (default: 1, 2, 4, ... to the cores)"),
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Tiles for each worker")] = 3,
    antennas: Annotated[int, typer.Option(min=4, max=96, help="Antennas with data")] = 96,
    channels: Annotated[int, typer.Option(min=1, max=48, help="Channels a sub-band")] = 48,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where to write; a cluster's workers must see it (default: a temporary)"),
    ] = None,
    scheduler: SchedulerOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure tiles an hour against workers, from sub-band files to images."""
    import os

    from dsa110_contimg.batch.scaling import STAGES, measure
    from dsa110_contimg.simulation.hour import RunOptions

    settings = load_settings(root=root, scheduler=scheduler)
    counts = _counts(workers, os.cpu_count() or 1)
    if settings.executor.scheduler and directory is None:
        raise UsageError("give --directory: a place that the cluster's workers see")
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="contimg_scale_", dir=directory) as place:
        size = RunOptions(groups=1, antennas=antennas, channels=channels)
        rows, first = [], 0.0
        for rate in measure(settings, Path(place), counts, tiles, size):
            first = first or rate.tiles_per_hour / rate.workers
            share = rate.tiles_per_hour / rate.workers / first
            rows.append(
                {
                    "workers": rate.workers,
                    "tiles": rate.tiles,
                    "seconds": rate.seconds,
                    "tiles_per_hour": rate.tiles_per_hour,
                    "efficiency": share,
                    "stage_s": rate.stage_s,
                    "tile_gb": rate.tile_gb,
                }
            )
            if not as_json:
                stages = "  ".join(f"{name} {rate.stage_s[name]:6.1f} s" for name in STAGES)
                typer.echo(
                    f"{rate.workers:4d} workers  {rate.tiles_per_hour:8.1f} tiles/h  "
                    f"{100 * share:5.1f} % of as many single ones  {stages}"
                )
    if as_json:
        print_json(rows)


def _counts(given: str | None, cores: int) -> list[int]:
    if given is None:
        return [*(2**k for k in range(cores.bit_length()) if 2**k < cores), cores]
    try:
        counts = [int(part) for part in given.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise UsageError(f"--workers {given!r}: give whole numbers with commas between them")
    return counts
