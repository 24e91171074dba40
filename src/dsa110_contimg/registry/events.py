"""Events: what operators may want to know."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.registry.models import Event
from dsa110_contimg.registry.read_models import LoggedEvent

if TYPE_CHECKING:
    from dsa110_contimg.registry.database import Registry


_MAX_EVENTS = 100


def record_event(
    session: Session, subject: str, message: str, level: str = "info", at: float | None = None
) -> None:
    """Note something for operators as part of a transaction.

    Parameters
    ----------
    session : Session
    subject : str
        Tile, group, mosaic or other thing that it is about.
    message : str
    level : str
        info, warning or error.
    at : float, optional
        Unix seconds; default: now.
    """
    moment = time.time() if at is None else at
    session.add(Event(at=moment, level=level, subject=subject, message=message))


def events_after(session: Session, number: int) -> list[Event]:
    """Events after the one of a number, in their order."""
    return list(session.scalars(select(Event).where(Event.id > number).order_by(Event.id)))


def list_events(
    registry: "Registry", level: str | None = None, limit: int = 50
) -> list[LoggedEvent]:
    """The newest events, the last one first."""
    query = select(Event).order_by(Event.id.desc()).limit(limit)
    if level is not None:
        query = query.where(Event.level == level)
    with registry.read() as session:
        return [LoggedEvent.model_validate(row) for row in session.scalars(query)]


def events_about(session: Session, subjects: Sequence[str]) -> list[LoggedEvent]:
    """The newest events about some subjects, the last one first."""
    about = select(Event).where(Event.subject.in_(subjects))
    rows = session.scalars(about.order_by(Event.id.desc()).limit(_MAX_EVENTS))
    return [LoggedEvent.model_validate(row) for row in rows]
