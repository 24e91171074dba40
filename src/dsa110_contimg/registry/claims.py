"""Who works on what: claims by lease and attempt number.

A claim raises the row's attempt number, and every later change names that number: it is a fencing
token, so a worker or coordinator that wakes after its lease passed on changes nothing. Failures
are counted apart from attempts: a killed daemon is nobody's failure.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Float, Update, bindparam, func, or_, select, union_all, update
from sqlalchemy.orm import Session

from dsa110_contimg.errors import (
    CalibrationError,
    ContimgError,
    NotYetError,
    RetryableError,
    StaleClaimError,
    UsageError,
)
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import MosaicGroup, Tile
from dsa110_contimg.registry.states import GroupState, TileState, check_change

_TRIES = 5
"""Of a claim, where others are claiming too."""


@dataclass(frozen=True)
class Kind:
    """A table of work and its states."""

    table: type[Tile] | type[MosaicGroup]
    ready: TileState | GroupState
    working: TileState | GroupState
    failed: TileState | GroupState
    quarantined: TileState | GroupState
    held: TileState | GroupState


TILES = Kind(
    Tile,
    TileState.READY,
    TileState.CONVERTING,
    TileState.FAILED,
    TileState.QUARANTINED,
    held=TileState.QUARANTINED,
)
GROUPS = Kind(
    MosaicGroup,
    GroupState.READY,
    GroupState.PROCESSING,
    GroupState.FAILED,
    GroupState.QUARANTINED,
    held=GroupState.HELD,
)


@dataclass(frozen=True)
class Claim:
    """The right to work on one row.

    Attributes
    ----------
    kind : Kind
    id : str
    attempt : int
        The fencing token.
    """

    kind: Kind
    id: str
    attempt: int


def claim_next(
    registry: Registry,
    kind: Kind,
    owner: str,
    lease_s: float,
    newest_first_behind_s: float | None = None,
) -> Claim | None:
    """Claim a row that is ready, due for a retry, or left by a dead owner: the oldest, as a rule.

    Parameters
    ----------
    registry : Registry
    kind : Kind
    owner : str
    lease_s : float
    newest_first_behind_s : float, optional
        The newest goes first while the oldest is so much older (seconds of data time).
    """
    for _ in range(_TRIES):
        now = time.time()
        newest_first = newest_first_behind_s is not None and (
            _span_s(registry, kind, now) > newest_first_behind_s
        )
        taken = registry.change_one(
            _taking(kind, newest_first), {"now": now, "by": owner, "until": now + lease_s}
        )
        if taken is not None:
            row_id, attempt = taken
            return Claim(kind, row_id, attempt)
        # Whoever is claiming one row holds the first of each state for a moment.
        with registry.read() as session:
            left = select(kind.table.id).where(or_(*_free(kind))).limit(1)
            if session.scalar(left, {"now": now}) is None:
                return None
    return None


def _span_s(registry: Registry, kind: Kind, now: float) -> float:
    """How much older the oldest that may be claimed is than the newest, in data time."""
    start = kind.table.start
    with registry.read() as session:
        span = select(func.max(start) - func.min(start)).where(or_(*_free(kind)))
        return session.scalar(span, {"now": now}) or 0.0


def _free(kind: Kind) -> tuple[Any, Any, Any]:
    """Conditions of a row that may be claimed at the moment `now`, by its state."""
    table, now = kind.table, bindparam("now", type_=Float)
    return (
        table.state == kind.ready,
        (table.state == kind.failed) & (table.not_before <= now),
        (table.state == kind.working) & (table.lease_until < now),
    )


@cache
def _taking(kind: Kind, newest_first: bool) -> Update:
    """The statement that claims one row.

    One index serves each state; rows that somebody else is claiming are passed over.
    """
    table = kind.table
    firsts = [
        select(table.id, table.start)
        .where(condition)
        .order_by(table.start.desc() if newest_first else table.start)
        .limit(1)
        .with_for_update(skip_locked=True)
        .subquery()
        for condition in _free(kind)
    ]
    candidates = union_all(*(select(first.c.id, first.c.start) for first in firsts)).subquery()
    start = candidates.c.start.desc() if newest_first else candidates.c.start
    chosen = select(candidates.c.id).order_by(start).limit(1).scalar_subquery()
    return (
        update(table)
        .where(table.id == chosen)
        .values(
            state=kind.working,
            attempt=table.attempt + 1,
            owner=bindparam("by"),
            lease_until=bindparam("until", type_=Float),
        )
        .returning(table.id, table.attempt)
    )


def take_back(registry: Registry, kind: Kind, is_dead: Callable[[str], bool]) -> list[str]:
    """End the leases of owners that are known to be dead, so that nobody waits for them.

    Parameters
    ----------
    registry : Registry
    kind : Kind
    is_dead : callable
        Says of an owner's name whether it is certainly gone.

    Returns
    -------
    list of str
        Rows that may be claimed again at once.
    """
    table = kind.table
    with registry.write() as session:
        held = session.execute(
            select(table.id, table.attempt, table.owner).where(
                table.state == kind.working, table.lease_until > 0
            )
        )
        found = [Claim(kind, row.id, row.attempt) for row in held if is_dead(row.owner)]
        for claim in found:
            change(session, claim, lease_until=0.0)
    return [claim.id for claim in found]


def heartbeat(registry: Registry, claim: Claim, lease_s: float) -> bool:
    """Prolong a lease.

    Returns
    -------
    bool
        False if this claim's work is committed, so that there is nothing left to hold.

    Raises
    ------
    StaleClaimError
        If somebody else has claimed the row since.
    """
    table = claim.kind.table
    with registry.write() as session:
        row = session.execute(
            select(table.attempt, table.state).where(table.id == claim.id)
        ).one_or_none()
        if row is not None and row.attempt == claim.attempt and row.state != claim.kind.working:
            return False
        change(session, claim, lease_until=time.time() + lease_s)
    return True


def change(session: Session, claim: Claim, **values: Any) -> None:
    """Change the claimed row within a transaction.

    Raises
    ------
    StaleClaimError
        If somebody else has claimed it since; the transaction is then rolled back.
    """
    table = claim.kind.table
    if "state" in values:
        check_change(claim.kind.working, values["state"])
    done = session.execute(
        update(table)
        .where(
            table.id == claim.id, table.attempt == claim.attempt, table.state == claim.kind.working
        )
        .values(**values)
    )
    if not _rowcount(done):
        raise StaleClaimError(f"{claim.id}: attempt {claim.attempt} was given to somebody else")


def release(registry: Registry, claim: Claim) -> None:
    """Give a claim back unused (a clean stop)."""
    with registry.write() as session:
        change(session, claim, state=claim.kind.ready, owner="", lease_until=0.0)


def fail(
    registry: Registry,
    claim: Claim,
    error: Exception,
    max_attempts: int,
    retry_delay_s: float,
    pause: bool = False,
) -> str:
    """Record a failure: retry later, hold, or quarantine.

    With `pause` it is nobody's failure (the disk is full): the work is tried again later.

    Returns
    -------
    str
        The row's new state.
    """
    with registry.write() as session:
        table = claim.kind.table
        failures = session.scalar(select(table.failures).where(table.id == claim.id)) or 0
        failures += not (pause or isinstance(error, NotYetError))
        # An error that is nobody's of ours may pass: it gets its retries like a retryable one.
        permanent = isinstance(error, ContimgError) and not isinstance(error, RetryableError)
        if pause:
            state = claim.kind.failed
        elif isinstance(error, CalibrationError):
            state = claim.kind.held
        elif permanent or failures >= max_attempts:
            state = claim.kind.quarantined
        else:
            state = claim.kind.failed
        reason = (
            str(error) if isinstance(error, ContimgError) else f"{type(error).__name__}: {error}"
        )
        change(
            session,
            claim,
            state=state,
            failures=failures,
            reason=reason,
            owner="",
            lease_until=0.0,
            not_before=time.time() + retry_delay_s * 2 ** max(0, failures - 1),
        )
    return state


def retry(registry: Registry, kind: Kind, row_id: str) -> bool:
    """Make failed, held or quarantined work ready again; False if it is none of these."""
    with registry.write() as session:
        done = session.execute(
            update(kind.table)
            .where(
                kind.table.id == row_id,
                kind.table.state.in_((kind.failed, kind.held, kind.quarantined)),
            )
            .values(state=kind.ready, failures=0, reason="", not_before=0.0)
        )
        return bool(_rowcount(done))


def quarantine(registry: Registry, kind: Kind, row_id: str, reason: str) -> None:
    """Quarantine work by hand: nobody touches it until it is released.

    Raises
    ------
    UsageError
        If it is not waiting, failed or held: what is done or being done is not set aside.
    """
    with registry.write() as session:
        done = session.execute(
            update(kind.table)
            .where(
                kind.table.id == row_id,
                kind.table.state.in_({kind.ready, kind.failed, kind.held} - {kind.quarantined}),
            )
            .values(state=kind.quarantined, reason=f"by hand: {reason}")
        )
        if not _rowcount(done):
            raise UsageError(f"{row_id}: is not waiting, failed or held")
        message = f"quarantined by hand: {reason}"
        record_event(session, row_id, message, "warning")


def _rowcount(result: Any) -> int:
    return int(result.rowcount)
