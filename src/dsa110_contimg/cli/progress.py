"""Progress of a run: bars on a terminal, lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dsa110_contimg.pipeline.context import Progress


@contextmanager
def shown() -> Iterator[Progress]:
    """A progress callback that draws on standard error."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        TextColumn("{task.fields[message]:16}"),
        TimeElapsedColumn(),
        TextColumn("still"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def update(stage: str, fraction: float, message: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0, message="")
            bars.update(tasks[stage], completed=fraction, message=message)  # type: ignore[arg-type]

        yield update


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on a terminal that one step runs, and for how long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        bars.add_task(what, total=None)
        yield


def _line(stage: str, fraction: float, message: str) -> None:
    sys.stderr.write(f"{stage}: {message}\n")
