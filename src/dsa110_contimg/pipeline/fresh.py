"""Paths that nobody else writes to, and that a failed call leaves nothing under."""

import glob
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4


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
    """

    parent: Path
    stem: str
    suffix: str = ""
    inside: str = ""

    def remove(self, made: Path) -> None:
        """Remove what was written under a name that `make` gave."""
        whole = made.parent if self.inside else made
        # Some programs put suffixes of their own behind a name.
        for path in whole.parent.glob(f"{glob.escape(whole.name)}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def make(self) -> Path:
        """A name that was never given before; nothing is created."""
        path = self.parent / f"{self.stem}_{uuid4().hex[:8]}{self.suffix}"
        return path / self.inside if self.inside else path


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


def resolved(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call with every `FreshPath` made."""
    return {
        name: value.make() if isinstance(value, FreshPath) else value
        for name, value in arguments.items()
    }
