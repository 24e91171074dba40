"""Flags given by hand: rows of the database."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg import records
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import ManualFlagRow
from dsa110_contimg.registry.read_models import ReadModel
from dsa110_contimg.visibilities.manual_flags import ManualFlag


def add(registry: Registry, flag: ManualFlag) -> int:
    """Keep a flag; returns its number."""
    with registry.write() as session:
        row = ManualFlagRow(created=time.time(), flag=records.to_json(flag))
        session.add(row)
        session.flush()
        record_event(session, f"flag {row.id}", f"added: {flag}")
        return row.id


class KnownFlag(ReadModel):
    """A flag with its number; `created` is in Unix seconds."""

    number: int
    created: float
    flag: ManualFlag


def known(registry: Registry) -> list[KnownFlag]:
    """All flags, in the order in which they were given."""
    with registry.read() as session:
        return [
            KnownFlag(
                number=row.id, created=row.created, flag=records.from_json(ManualFlag, row.flag)
            )
            for row in session.scalars(select(ManualFlagRow).order_by(ManualFlagRow.id))
        ]


def during(session: Session, start: float, end: float) -> tuple[ManualFlag, ...]:
    """Flags that concern a span of data time (Unix seconds)."""
    rows = session.scalars(select(ManualFlagRow).order_by(ManualFlagRow.id))
    flags = [records.from_json(ManualFlag, row.flag) for row in rows]
    return tuple(flag for flag in flags if flag.overlaps(start, end))


def remove(registry: Registry, number: int) -> None:
    """Forget a flag.

    Raises
    ------
    UsageError
        If there is none of that number.
    """
    with registry.write() as session:
        row = session.get(ManualFlagRow, number)
        if row is None:
            raise UsageError(f"no flag {number}; 'dsa110-contimg flags list' shows them")
        session.delete(row)
        record_event(session, f"flag {number}", "removed")
