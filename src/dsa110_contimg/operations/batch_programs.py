"""Batch programs at work: housekeeping spares what they read, and what no row names meanwhile.

Each holds a locked file, so a killed one protects nothing any more.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from dsa110_contimg import layout

_READS = ".reads"


@dataclass(frozen=True)
class AtWork:
    """Batch programs of a root.

    Attributes
    ----------
    programs : int
        A file that no row names may be theirs.
    reads : frozenset of Path
        Files and directories that they read.
    """

    programs: int
    reads: frozenset[Path]

    def needs(self, path: Path) -> bool:
        """True if one of them reads a path, or a directory that it lies in."""
        path = path.resolve()
        return not self.reads.isdisjoint((path, *path.parents))


@contextlib.contextmanager
def protected(root: Path, reads: Iterable[Path] = ()) -> Iterator[None]:
    """Tell housekeeping that this program writes under a root, and what it reads there."""
    directory = layout.running_programs(root)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{uuid4().hex}.lock"
    # Told before it counts.
    path.with_suffix(_READS).write_text("\n".join(str(read.resolve()) for read in reads))
    with FileLock(path):
        try:
            yield
        finally:
            _forget(path)


def at_work(root: Path) -> AtWork:
    """The batch programs of now; forgets those that were killed."""
    held = [path for path in layout.running_programs(root).glob("*.lock") if _is_held(path)]
    reads: set[Path] = set()
    for path in held:
        # It may just be ending.
        with contextlib.suppress(FileNotFoundError):
            reads.update(map(Path, path.with_suffix(_READS).read_text().splitlines()))
    return AtWork(len(held), frozenset(reads))


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    _forget(path)
    lock.release()
    return False


def _forget(path: Path) -> None:
    path.with_suffix(_READS).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
