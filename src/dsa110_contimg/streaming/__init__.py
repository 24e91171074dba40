"""Theme 1: two daemons that watch, decide and process for ever."""

from dsa110_contimg.streaming.converter import StreamingConverter
from dsa110_contimg.streaming.mosaics import StreamingMosaicManager

__all__ = ["StreamingConverter", "StreamingMosaicManager"]
