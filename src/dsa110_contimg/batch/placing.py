"""Outputs that appear where they were asked for when they are whole.

A call may run twice at once where a connection broke, so each execution writes to a place of its
own, and only the program that gave the call moves what was made.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from dsa110_contimg.errors import OutageError, UsageError
from dsa110_contimg.pipeline.fresh import FreshPath


@contextlib.contextmanager
def aside(output: Path) -> Iterator[Path]:
    """A hidden directory beside an output, removed in the end with all that is left in it.

    Raises
    ------
    OutageError
        If it cannot be made.
    """
    scratch = output.parent / f".{output.name}.{uuid4().hex[:8]}"
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise OutageError(f"{output.parent}: cannot be written ({error.strerror})") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fresh(output: Path, scratch: Path) -> FreshPath:
    """What each execution calls the output meanwhile."""
    return FreshPath(scratch, "made", output.suffix)


def place(made: Any, output: Path, scratch: Path) -> Any:
    """Move what one execution made into place, and say so in what it says.

    Parameters
    ----------
    made : dataclass
        Names a path in the scratch directory.
    output : Path
        What it is to be; what has the same name but another ending becomes the like.
    scratch : Path

    Raises
    ------
    UsageError
        If there is already something of one of the names.
    """
    field, path = next(
        (name, value)
        for name, value in vars(made).items()
        if isinstance(value, Path) and value.parent == scratch
    )
    stem = path.name.removesuffix(output.suffix)
    targets = {
        one: output.with_name(output.name.removesuffix(output.suffix) + one.name[len(stem) :])
        for one in sorted(scratch.glob(f"{stem}*"))
    }
    for target in targets.values():
        if target.exists():
            raise UsageError(f"{target}: exists already; choose another --output")
    for one, target in targets.items():
        one.rename(target)
    return replace(made, **{field: output})
