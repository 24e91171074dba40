"""Pieces that queries have in common."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.models import Mosaic, MosaicGroup, Tile
from dsa110_contimg.registry.read_models import Neighbours

AT_ONCE = 500
"""Values in one statement: databases limit their number."""
RECENT = 20
"""Number of newest rows that lists of news go back to."""
_Row = TypeVar("_Row")
_T = TypeVar("_T")


def existing(session: Session, table: type[_Row], key: str, missing: str) -> _Row:
    """A row by its key.

    Raises
    ------
    UsageError
        With the words for its absence.
    """
    row = session.get(table, key)
    if row is None:
        raise UsageError(missing)
    return row


def in_time(
    query: Select[Any],
    start: InstrumentedAttribute[float],
    since: float | None,
    until: float | None,
) -> Select[Any]:
    """Newest first, from one observation time to another."""
    if since is not None:
        query = query.where(start >= since)
    if until is not None:
        query = query.where(start <= until)
    return query.order_by(start.desc())


def batches(values: Iterable[_T], count: int) -> Iterator[list[_T]]:
    """Lists of at most so many values."""
    rest = iter(values)
    while some := list(islice(rest, count)):
        yield some


def in_selection(
    start: InstrumentedAttribute[float],
    tile_id: InstrumentedAttribute[str],
    since: float | None,
    until: float | None,
    tile_ids: Iterable[str] | None,
) -> list[ColumnElement[bool]]:
    """Conditions on the time of observation and the name of tiles."""
    conditions = []
    if since is not None:
        conditions.append(start >= since)
    if until is not None:
        conditions.append(start <= until)
    if tile_ids is not None:
        conditions.append(tile_id.in_(list(tile_ids)))
    return conditions


def neighbours(
    session: Session, table: type[Tile] | type[MosaicGroup] | type[Mosaic], start: float
) -> Neighbours:
    """Names of the rows that were observed before and after a moment."""
    name = table.name if issubclass(table, Mosaic) else table.id
    before = select(name).where(table.start < start).order_by(table.start.desc()).limit(1)
    after = select(name).where(table.start > start).order_by(table.start).limit(1)
    return Neighbours(before=session.scalar(before), after=session.scalar(after))
