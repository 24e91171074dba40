"""Paths that nobody else writes to, and that a failed call leaves nothing under."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from dsa110_contimg.durable import discard, named_after
from dsa110_contimg.executors.own_disk import OnHost, place_of


@dataclass(frozen=True)
class FreshPath:
    """A path that is made up when a call begins: a step may run twice, never into one place.

    Attributes
    ----------
    parent : Path
    stem, suffix : str
        Before and after what makes the name unique.
    inside : str
        If given, the unique name is a directory, and this is a name in it.
    own_disk_of : Path, optional
        Root that may have it on the own disk of the machine that makes it, instead of in `parent`.
    """

    parent: Path
    stem: str
    suffix: str = ""
    inside: str = ""
    own_disk_of: Path | None = None

    def remove(self, made: Path) -> None:
        """Remove what was written under a name that `make` gave."""
        whole = made.parent if self.inside else made
        # Some programs put suffixes of their own behind a name.
        for path in named_after(whole):
            discard(path)

    def make(self) -> Path:
        """A name that was never given before; nothing of that name is created."""
        parent = self.parent
        if self.own_disk_of is not None:
            parent = place_of(self.own_disk_of, parent)
        path = parent / f"{self.stem}_{uuid4().hex[:8]}{self.suffix}"
        return path / self.inside if self.inside else path


def fresh_path(
    parent: Path, stem: str, suffix: str = "", inside: str = "", own_disk_of: Path | None = None
) -> Path:
    """`FreshPath`, typed as the path that the function of a call gets in its place."""
    return cast(Path, FreshPath(parent, stem, suffix, inside, own_disk_of))


def remove_made(arguments: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Remove what a call that failed has left under its fresh paths.

    Parameters
    ----------
    arguments, given : mapping
        Of the call, before and after `resolved`.
    """
    for name, value in arguments.items():
        if isinstance(value, FreshPath):
            value.remove(given[name])


def resolved(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments of a call as its function takes them: fresh paths made, places as plain paths."""

    def plain(value: object) -> object:
        if isinstance(value, FreshPath):
            return value.make()
        return value.path if isinstance(value, OnHost) else value

    return {name: plain(value) for name, value in arguments.items()}
