"""Force files to disk: what the database says is done must outlast a loss of power."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


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
