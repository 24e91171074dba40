"""Files on the own disk of a worker's machine: what reads them has to run there.

A worker that is given a directory of its own (`dsa110-contimg worker --own-disk`) writes large
files there, and its results name the machine. Executors give a call whose arguments lie on a
machine to that machine, or fail it with `LostHostError` when that is gone or has them no more.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from dsa110_contimg.errors import ElsewhereError, LostHostError

DIRECTORY, LEAST_FREE_GB = "CONTIMG_WORKER_OWN_DISK", "CONTIMG_WORKER_OWN_DISK_LEAST_FREE_GB"
"""Variables that tell a worker's processes."""


@dataclass(frozen=True)
class OnHost:
    """A path on a machine's own disk, as an argument; the call gets the plain path.

    Attributes
    ----------
    host : str
        Empty if all machines see the path.
    path : Path
    """

    host: str
    path: Path


@runtime_checkable
class Located(Protocol):
    """A result whose files may lie on a machine's own disk."""

    @property
    def place(self) -> OnHost:
        """Machine and path of the files."""
        ...


def use(own: Path, least_free_gb: float) -> None:
    """Let this process and those that it starts write to their machine's own disk.

    Parameters
    ----------
    own : Path
        Directory there; made if it is not there.
    least_free_gb : float
        With less they write where all see it.
    """
    own.mkdir(parents=True, exist_ok=True)
    os.environ[DIRECTORY] = str(own.absolute())
    os.environ[LEAST_FREE_GB] = str(least_free_gb)


def directory() -> Path | None:
    """Where this process writes to its machine's own disk, if it does."""
    given = os.environ.get(DIRECTORY)
    return Path(given) if given else None


def own_disks() -> dict[str, Path]:
    """That of this machine by its name, if it has one."""
    own = directory()
    return {} if own is None else {this_host(): own}


def home_of(root: Path, own: Path) -> Path:
    """What belongs to one root on an own disk; others may share that."""
    return own / hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:12]


def place_of(root: Path, parent: Path) -> Path:
    """Where to write what would go to a directory: on the own disk, if there is one with room."""
    own = directory()
    if own is None:
        return parent
    place = home_of(root, own) / parent.name
    try:
        if shutil.disk_usage(own).free < float(os.environ.get(LEAST_FREE_GB, 0)) * 1e9:
            return parent
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return parent
    return place


def host_of(path: Path) -> str:
    """Name of this machine if a path lies on its own disk, empty if all see it."""
    own = directory()
    return this_host() if own is not None and path.is_relative_to(own) else ""


def this_host() -> str:
    """Name of this machine."""
    return platform.node()


def placed(host: str, path: Path) -> Path:
    """A path as the argument of a call: `OnHost` on a machine's own disk, typed as the path."""
    return cast(Path, OnHost(host, path)) if host else path


def needed_host(arguments: Mapping[str, object]) -> str:
    """The machine that a call has to run on; empty if any will do."""
    return next((place.host for place in _places(arguments)), "")


def check_here(arguments: Mapping[str, object]) -> None:
    """Refuse a call whose files are not on this machine.

    Raises
    ------
    LostHostError
        If they were.
    ElsewhereError
        If they are on another, to which this program has no way.
    """
    for place in _places(arguments):
        if place.host != this_host():
            raise ElsewhereError(
                f"{place.path} lies on {place.host} and this is {this_host()}; compute with "
                "the scheduler that has a worker there (executor.scheduler)"
            )
        if not place.path.exists():
            raise LostHostError(f"{place.path} is gone from {place.host}", place.host, place.path)


def _places(arguments: Mapping[str, object]) -> Iterator[OnHost]:
    """Places of all arguments that lie on a machine's own disk."""
    for value in arguments.values():
        place = value.place if isinstance(value, Located) else value
        if isinstance(place, OnHost) and place.host:
            yield place
