"""The database that a run's stages work with."""

from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings


def open_registry(context: PipelineContext) -> Registry:
    """The run's database: the context's `registry`, else the one of its root."""
    return context.get("registry") or Registry.of(Settings(root=context.root))
