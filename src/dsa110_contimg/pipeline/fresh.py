"""Paths that nobody else writes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4


@dataclass(frozen=True)
class FreshPath:
    """A path that whoever computes makes up anew: a step may run twice, never into one place.

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

    def make(self) -> Path:
        """A name that was never given before; nothing is created."""
        path = self.parent / f"{self.stem}_{uuid4().hex[:8]}{self.suffix}"
        return path / self.inside if self.inside else path


def resolved(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call with every `FreshPath` made."""
    return {
        name: value.make() if isinstance(value, FreshPath) else value
        for name, value in arguments.items()
    }
