"""Questions that people and pages ask."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    Event,
    FileState,
    GroupState,
    Job,
    Mosaic,
    MosaicGroup,
    SubbandFile,
    Tile,
    TileState,
)

_RECENT = 20


def overview(registry: Registry) -> dict[str, Any]:
    """Counts by state, the newest tile, and what is wrong with its reasons."""
    with registry.read() as session:
        return {
            "files": _counts(session, SubbandFile),
            "tiles": _counts(session, Tile),
            "groups": _counts(session, MosaicGroup),
            "mosaics": _counts(session, Mosaic),
            "jobs": _counts(session, Job),
            "latest_tile": session.scalar(select(func.max(Tile.start))),
            "dead_antennas": _dead_antennas(session),
            "problems": _problems(session),
            "warnings": [
                f"{event.subject}: {event.message}"
                for event in session.scalars(
                    select(Event)
                    .where(Event.level == "warning")
                    .order_by(Event.id.desc())
                    .limit(_RECENT)
                )
            ],
        }


def _counts(session: Session, table: Any) -> dict[str, int]:
    rows = session.execute(
        select(table.state, func.count()).group_by(table.state).order_by(table.state)
    )
    return {str(state): int(count) for state, count in rows}


def _dead_antennas(session: Session) -> list[str]:
    """Newest tiles and the antennas without signal in them."""
    rows = session.scalars(
        select(Tile)
        .where(Tile.state == TileState.CONVERTED)
        .order_by(Tile.start.desc())
        .limit(_RECENT)
    )
    return [
        f"{tile.id}: {', '.join(tile.converted['dead_antennas'])}"
        for tile in rows
        if tile.converted and tile.converted["dead_antennas"]
    ]


def _problems(session: Session) -> list[str]:
    out = []
    tables: tuple[tuple[type[Tile] | type[MosaicGroup], tuple[str, ...]], ...] = (
        (Tile, (TileState.REJECTED, TileState.FAILED, TileState.QUARANTINED)),
        (MosaicGroup, (GroupState.HELD, GroupState.FAILED, GroupState.QUARANTINED)),
    )
    for table, bad in tables:
        kind = "tile" if table is Tile else "group"
        rows = session.execute(
            select(table.id, table.state, table.reason)
            .where(table.state.in_(bad))
            .order_by(table.start.desc())
            .limit(_RECENT)
        )
        out += [f"{kind} {row.id} {row.state}: {row.reason}" for row in rows]
    for file in session.scalars(
        select(SubbandFile)
        .where(SubbandFile.state.in_((FileState.REJECTED, FileState.UNREADABLE)))
        .order_by(SubbandFile.first_seen.desc())
        .limit(_RECENT)
    ):
        out.append(f"file {file.state}: {file.reason}")
    return out
