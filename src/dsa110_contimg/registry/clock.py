"""Moments in the database that lie in the future because the clock was set back."""

import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import InstrumentedAttribute

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import Alert, MosaicGroup, SubbandFile, Tile
from dsa110_contimg.registry.subband_files import RARELY_S

STEP_S = 5.0
"""Smallest step of the clock that matters."""


def bring_in(registry: Registry, lease_s: float, longest_retry_s: float) -> int:
    """Set moments that cannot be to the latest that can.

    Parameters
    ----------
    registry : Registry
    lease_s : float
        Length of a lease.
    longest_retry_s : float
        Longest pause before work is tried again.

    Returns
    -------
    int
        Number of moments that were changed.
    """
    now = time.time()
    count = 0
    with registry.write() as session:
        for column, ahead_s in _moments(lease_s, longest_retry_s):
            done: Any = session.execute(
                update(column.class_)
                .where(column > now + ahead_s + STEP_S)
                .values({column.key: now + ahead_s})
            )
            count += done.rowcount
        if count:
            message = f"the clock was set back: {count} moments lay in the future"
            record_event(session, "clock", message, "warning")
    return count


def _moments(
    lease_s: float, longest_retry_s: float
) -> Iterator[tuple[InstrumentedAttribute[object], float]]:
    """Columns, and how many seconds ahead of now they may lie."""
    for table in (Tile, MosaicGroup):
        yield table.lease_until, lease_s
        yield table.not_before, longest_retry_s
    yield Tile.last_arrival, 0.0
    yield SubbandFile.first_seen, 0.0
    yield SubbandFile.look_again, RARELY_S
    yield Alert.since, 0.0
    yield Alert.notified, 0.0
