"""Outputs that appear where they were asked for when they are whole.

A call may run twice at once where a connection broke, so each execution writes to a place of its
own, and only the program that gave the call moves what was made.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsa110_contimg.durable import check_new, sync, unfinished_name
from dsa110_contimg.errors import OutageError
from dsa110_contimg.executors.fresh import fresh_path


@contextlib.contextmanager
def aside(output: Path) -> Iterator[Path]:
    """A hidden directory beside an output, removed in the end with all that is left in it.

    Raises
    ------
    OutageError
        If it cannot be made.
    """
    scratch = unfinished_name(output)
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise OutageError(f"{output.parent}: cannot be written ({error.strerror})") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fresh(output: Path, scratch: Path) -> Path:
    """What each execution calls the output meanwhile: the same behind a mark of its own."""
    return fresh_path(scratch, "made", f".{output.name}")


def place(made: Any, output: Path, scratch: Path) -> Any:
    """Move what one execution made into place, with all that has its mark, and say so in it.

    Parameters
    ----------
    made : dataclass
        Names a path in the scratch directory.
    output : Path
    scratch : Path

    Raises
    ------
    UsageError
        If there is already something of one of the names; nothing is moved then.
    OutageError
        If the disk fails.
    """
    field, path = next(
        (name, value)
        for name, value in vars(made).items()
        if isinstance(value, Path) and value.parent == scratch
    )
    mark = path.name.removesuffix(output.name)
    targets = {
        one: output.with_name(one.name.removeprefix(mark))
        for one in sorted(scratch.iterdir())
        if one.name.startswith(mark)
    }
    move(targets)
    return replace(made, **{field: output})


def move(targets: Mapping[Path, Path], overwrite: bool = False) -> None:
    """Rename all, or none if one fails.

    Parameters
    ----------
    targets : mapping of Path to Path
        New paths, in one directory, by old ones, whose directory is removed afterwards.
    overwrite : bool
        What has one of the new names goes.

    Raises
    ------
    UsageError
        If something has, and may not go.
    OutageError
        If the disk fails.
    """
    if not overwrite:
        check_new(targets.values())
    try:
        with contextlib.ExitStack() as undo:
            for one, target in targets.items():
                if overwrite and target.exists():
                    old = one.with_name(f"{one.name}.old")
                    target.rename(old)
                    undo.callback(old.rename, target)
                one.rename(target)
                undo.callback(target.rename, one)
            for directory in {target.parent for target in targets.values()}:
                sync(directory)
            undo.pop_all()
    except OSError as error:
        raise OutageError(f"{error.filename}: cannot be moved ({error.strerror})") from error
