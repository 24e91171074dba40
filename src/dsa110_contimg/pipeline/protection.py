"""Batch programs at work: while there are any, files that no row names may be theirs.

Each holds a locked file, so a killed one protects nothing any more.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout


@contextlib.contextmanager
def protected(root: Path) -> Iterator[None]:
    """Let housekeeping spare what no row names, while this program writes under a root."""
    directory = _directory(root)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{uuid4().hex}.lock"
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_protected(root: Path) -> bool:
    """True if a batch program is at work; forgets those that were killed."""
    held = [_is_held(path) for path in _directory(root).glob("*.lock")]
    return any(held)


def _directory(root: Path) -> Path:
    return root / "state" / "at_work"


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    path.unlink(missing_ok=True)
    lock.release()
    return False
