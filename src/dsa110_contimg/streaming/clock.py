"""When the clock is set back, moments that were written before lie in the future."""

import time
from collections.abc import Iterator
from typing import Any

import structlog
from sqlalchemy import update
from sqlalchemy.orm import InstrumentedAttribute

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Alert, Event, MosaicGroup, SubbandFile, Tile
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming.ingest import RARELY_S

log = structlog.get_logger()

_STEP_S = 5.0


class ClockWatch:
    """Brings such moments in, at the start and after each step: nothing waits for them.

    Parameters
    ----------
    registry : Registry
    settings : Settings
        Lease and retry times.
    """

    def __init__(self, registry: Registry, settings: Settings):
        self._registry = registry
        self._settings = settings
        self._offset_s: float | None = None

    def look(self) -> None:
        """Compare the clock with one that is never set."""
        offset_s = time.time() - time.monotonic()
        if self._offset_s is None or offset_s < self._offset_s - _STEP_S:
            bring_in(self._registry, self._settings)
        self._offset_s = offset_s


def bring_in(registry: Registry, settings: Settings) -> int:
    """Set moments that cannot be to the latest that can; returns how many."""
    now = time.time()
    count = 0
    with registry.write() as session:
        for column, ahead_s in _moments(settings):
            done: Any = session.execute(
                update(column.class_)
                .where(column > now + ahead_s + _STEP_S)
                .values({column.key: now + ahead_s})
            )
            count += done.rowcount
        if count:
            message = f"the clock was set back: {count} moments lay in the future"
            session.add(Event(at=now, level="warning", subject="clock", message=message))
            log.warning(message)
    return count


def _moments(settings: Settings) -> Iterator[tuple[InstrumentedAttribute[Any], float]]:
    """Columns, and how many seconds ahead of now they may lie."""
    longest_retry_s = settings.retry_delay_s * 2.0**settings.max_attempts
    for table in (Tile, MosaicGroup):
        yield table.lease_until, settings.lease_s
        yield table.not_before, longest_retry_s
    yield Tile.last_arrival, 0.0
    yield SubbandFile.first_seen, 0.0
    yield SubbandFile.look_again, RARELY_S
    yield Alert.since, 0.0
    yield Alert.told, 0.0
