"""The database that stages work with."""

from pathlib import Path

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings


def open_registry(registry: Registry | None, root: Path) -> Registry:
    """A database that was given, else the one of a root."""
    return registry or Registry.of(Settings(root=root))
