"""Theme 1: two daemons that watch, decide and process for ever.

Names are imported when first used: the libraries under them take a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsa110_contimg.streaming.converter import StreamingConverter
    from dsa110_contimg.streaming.mosaics import StreamingMosaicManager

__all__ = ["StreamingConverter", "StreamingMosaicManager"]

_MODULES = {"StreamingConverter": "converter", "StreamingMosaicManager": "mosaics"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
