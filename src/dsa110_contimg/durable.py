"""Files as a whole: written or not, on disk when the database says so, and how large."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

from dsa110_contimg.errors import UsageError


def check_new(paths: Iterable[Path]) -> None:
    """Raise `UsageError` if one of these, which are to be written, is there."""
    for path in paths:
        if path.exists():
            raise UsageError(f"{path}: exists already; choose another --output")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A directory that appears under its name when everything in it is written.

    Parameters
    ----------
    path : Path
        Its name; must not exist.

    Yields
    ------
    Path
        Where to write meanwhile; nothing is made. Removed if an error is raised.
    """
    part = path.with_name(f"{path.name}.part-{uuid4().hex[:8]}")
    try:
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sync_tree(path: Path) -> None:
    """Force a file, or everything in a directory, to disk, and its own name with it.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If the disk fails.
    """
    for found in _below(path):
        sync(found)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force one file's content, or a directory's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_trees(paths: Iterable[Path]) -> None:
    """The same of several, each once."""
    for path in dict.fromkeys(paths):
        sync_tree(path)


def _below(path: Path) -> Iterator[Path]:
    """Files first, then the directory that names them."""
    if path.is_dir():
        for entry in path.iterdir():
            yield from _below(entry)
    yield path


def size_bytes(path: Path) -> int:
    """Size of a file, or of everything in a directory."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total
