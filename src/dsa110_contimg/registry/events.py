"""Events: what operators may want to know."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.registry.models import Event


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
