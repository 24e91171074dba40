"""Rules that are broken now, and when people were last informed."""

import time

from sqlalchemy.orm import Session

from dsa110_contimg.registry.models import Alert


def find_alert(session: Session, rule: str) -> Alert | None:
    """The row of a rule that is broken."""
    return session.get(Alert, rule)


def keep_alert(session: Session, rule: str, since: float, message: str) -> None:
    """Record that a rule is broken since a moment, and that nobody was informed yet."""
    session.merge(Alert(rule=rule, since=since, notified=0.0, message=message))


def end_alert(session: Session, row: Alert) -> None:
    """Record that a rule is kept again."""
    session.delete(row)


def mark_sent(session: Session, rule: str) -> None:
    """Record that people were informed now."""
    row = session.get(Alert, rule)
    if row is not None:
        row.notified = time.time()
