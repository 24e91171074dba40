"""Questions that people and pages ask."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    Alert,
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
from dsa110_contimg.registry.statements import RECENT
from dsa110_contimg.registry.tiles import dead_antennas_in

_UNFINISHED_TILES = (TileState.COLLECTING, TileState.READY, TileState.CONVERTING, TileState.FAILED)
_UNFINISHED_GROUPS = (GroupState.READY, GroupState.PROCESSING, GroupState.FAILED)
_BAD_TILES = (TileState.REJECTED, TileState.FAILED, TileState.QUARANTINED)
_BAD_GROUPS = (GroupState.HELD, GroupState.FAILED, GroupState.QUARANTINED)


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
            "dead_antennas": dead_antennas_in(session),
            "problems": [_said(trouble) for trouble in _troubles(session)],
            "alerts": [
                f"{alert.rule}: {alert.message}" for alert in session.scalars(select(Alert))
            ],
            "warnings": [
                f"{event.subject}: {event.message}"
                for event in session.scalars(
                    select(Event)
                    .where(Event.level == "warning")
                    .order_by(Event.id.desc())
                    .limit(RECENT)
                )
            ],
        }


@dataclass(frozen=True)
class Pulse:
    """Is data flowing, and does the pipeline keep up.

    Attributes
    ----------
    data_age_s : float or None
        Since the newest tile was observed; None without any tile.
    lag_s : float
        From the oldest tile that is not finished to the newest one: how much sky waits.
    failing : int
        Tiles and groups that failed, are quarantined or held.
    tiles_last_hour, tiles_last_day : int
        Converted.
    mosaics_last_hour, mosaics_last_day : int
        Finished groups.
    disk_free_gb : float
    """

    data_age_s: float | None
    lag_s: float
    failing: int
    tiles_last_hour: int
    tiles_last_day: int
    mosaics_last_hour: int
    mosaics_last_day: int
    disk_free_gb: float


def pulse(registry: Registry, directory: Path) -> Pulse:
    """Measure flow and lag, and the space in a directory."""
    now = time.time()
    with registry.read() as session:

        def since(column: Any, seconds: float) -> int:
            return session.scalar(select(func.count()).where(column > now - seconds)) or 0

        newest = session.scalar(select(func.max(Tile.start)))
        oldest = [
            session.scalar(select(func.min(table.start)).where(table.state.in_(states)))
            for table, states in ((Tile, _UNFINISHED_TILES), (MosaicGroup, _UNFINISHED_GROUPS))
        ]
        waiting = [start for start in oldest if start is not None]
        failing = sum(
            session.scalar(select(func.count()).where(table.state.in_(states))) or 0
            for table, states in ((Tile, _BAD_TILES[1:]), (MosaicGroup, _BAD_GROUPS))
        )
        return Pulse(
            data_age_s=None if newest is None else now - newest,
            lag_s=newest - min(waiting) if newest is not None and waiting else 0.0,
            failing=failing,
            tiles_last_hour=since(Tile.converted_at, 3600),
            tiles_last_day=since(Tile.converted_at, DAY_S),
            mosaics_last_hour=since(MosaicGroup.finished_at, 3600),
            mosaics_last_day=since(MosaicGroup.finished_at, DAY_S),
            disk_free_gb=shutil.disk_usage(directory).free / 1e9,
        )


def _counts(session: Session, table: Any) -> dict[str, int]:
    rows = session.execute(
        select(table.state, func.count()).group_by(table.state).order_by(table.state)
    )
    return {str(state): int(count) for state, count in rows}


def troubles(registry: Registry) -> list[dict[str, Any]]:
    """Tiles, groups and files that are not well, the newest of each kind first."""
    with registry.read() as session:
        return _troubles(session)


def _troubles(session: Session) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    tables: tuple[tuple[str, type[Tile] | type[MosaicGroup], tuple[str, ...]], ...] = (
        ("tile", Tile, _BAD_TILES),
        ("group", MosaicGroup, _BAD_GROUPS),
    )
    for kind, table, bad in tables:
        rows = session.execute(
            select(table.id, table.state, table.reason)
            .where(table.state.in_(bad))
            .order_by(table.start.desc())
            .limit(RECENT)
        )
        out += [{"kind": kind, **row._mapping} for row in rows]
    files = session.execute(
        select(SubbandFile.path.label("id"), SubbandFile.state, SubbandFile.reason)
        .where(SubbandFile.state.in_((FileState.REJECTED, FileState.UNREADABLE)))
        .order_by(SubbandFile.first_seen.desc())
        .limit(RECENT)
    )
    return out + [{"kind": "file", **row._mapping} for row in files]


def _said(trouble: dict[str, Any]) -> str:
    """In one line; a file's reason names it."""
    name = "" if trouble["kind"] == "file" else f"{trouble['id']} "
    return f"{trouble['kind']} {name}{trouble['state']}: {trouble['reason']}"


def set_aside(registry: Registry) -> list[dict[str, Any]]:
    """Tiles and groups that wait for an operator."""
    out = []
    with registry.read() as session:
        for kind, table, states in (
            ("tile", Tile, (TileState.QUARANTINED,)),
            ("group", MosaicGroup, (GroupState.QUARANTINED, GroupState.HELD)),
        ):
            rows = session.execute(
                select(table.id, table.state, table.reason, table.start)
                .where(table.state.in_(states))
                .order_by(table.start)
            )
            out += [{"kind": kind, **row._mapping} for row in rows]
    return out
