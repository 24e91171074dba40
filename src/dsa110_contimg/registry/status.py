"""How everything is: counts, flow, what is at work, what is wrong."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.groups import count_after_groups
from dsa110_contimg.registry.models import (
    Alert,
    Event,
    Job,
    Mosaic,
    MosaicGroup,
    Product,
    Step,
    SubbandFile,
    Tile,
)
from dsa110_contimg.registry.read_models import ReadModel, WorkSummary
from dsa110_contimg.registry.statements import RECENT
from dsa110_contimg.registry.states import FileState, GroupState, JobState, TileState
from dsa110_contimg.registry.tiles import TileSummary, dead_antennas_in

_UNFINISHED_TILES = (TileState.COLLECTING, TileState.READY, TileState.CONVERTING, TileState.FAILED)
_UNFINISHED_GROUPS = (GroupState.READY, GroupState.PROCESSING, GroupState.FAILED)
_BAD_TILES = (TileState.REJECTED, TileState.FAILED, TileState.QUARANTINED)
_BAD_GROUPS = (GroupState.HELD, GroupState.FAILED, GroupState.QUARANTINED)


class Trouble(ReadModel):
    """A tile, group or file that is not well; `start` is when it was observed, Unix seconds."""

    kind: str
    id: str
    state: str
    reason: str
    start: float | None = None

    def __str__(self) -> str:
        # A file's reason names it.
        name = "" if self.kind == "file" else f"{self.id} "
        return f"{self.kind} {name}{self.state}: {self.reason}"


class JobAtWork(ReadModel):
    """A batch job that runs; `fraction` is that of its stage."""

    id: int
    type: str
    state: JobState
    stage: str
    fraction: float
    message: str
    started: float | None


class GroupAtWork(WorkSummary):
    """A mosaic group that is processed, and the stage of its last call."""

    state: GroupState
    stage: str
    stage_at: float | None


class AtWork(ReadModel):
    """What is being converted, processed and run at the moment."""

    tiles: list[TileSummary]
    groups: list[GroupAtWork]
    jobs: list[JobAtWork]


class Overview(ReadModel):
    """Counts by state, the newest tile (Unix seconds), and what is wrong with its reasons."""

    files: dict[str, int]
    tiles: dict[str, int]
    groups: dict[str, int]
    mosaics: dict[str, int]
    jobs: dict[str, int]
    latest_tile: float | None
    dead_antennas: list[str]
    problems: list[str]
    alerts: list[str]
    warnings: list[str]

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts by state of each kind of thing."""
        return {
            "files": self.files,
            "tiles": self.tiles,
            "groups": self.groups,
            "mosaics": self.mosaics,
            "jobs": self.jobs,
        }


def overview(registry: Registry) -> Overview:
    """Count by state, and collect what is wrong."""
    with registry.read() as session:
        alerts = session.scalars(select(Alert))
        warnings = session.scalars(
            select(Event).where(Event.level == "warning").order_by(Event.id.desc()).limit(RECENT)
        )
        return Overview(
            files=_counts(session, SubbandFile),
            tiles=_counts(session, Tile),
            groups=_counts(session, MosaicGroup),
            mosaics=_counts(session, Mosaic),
            jobs=_counts(session, Job),
            latest_tile=session.scalar(select(func.max(Tile.start))),
            dead_antennas=dead_antennas_in(session),
            problems=[str(trouble) for trouble in _troubles(session)],
            alerts=[f"{alert.rule}: {alert.message}" for alert in alerts],
            warnings=[f"{event.subject}: {event.message}" for event in warnings],
        )


def at_work(registry: Registry) -> AtWork:
    """List what is being converted, processed and run at the moment."""
    converting = select(Tile).where(Tile.state == TileState.CONVERTING).order_by(Tile.start)
    processing = MosaicGroup.state == GroupState.PROCESSING
    running = select(Job).where(Job.state == JobState.RUNNING).order_by(Job.id)
    with registry.read() as session:
        groups = session.scalars(select(MosaicGroup).where(processing).order_by(MosaicGroup.start))
        return AtWork(
            tiles=[TileSummary.model_validate(row) for row in session.scalars(converting)],
            groups=[_group_at_work(session, row) for row in groups],
            jobs=[JobAtWork.model_validate(row) for row in session.scalars(running)],
        )


def _group_at_work(session: Session, row: MosaicGroup) -> GroupAtWork:
    last = session.execute(
        select(Step.stage, Step.at).where(Step.group_id == row.id).order_by(Step.at.desc())
    ).first()
    return GroupAtWork(
        **WorkSummary.model_validate(row).model_dump(),
        state=row.state,
        stage=last.stage if last else "",
        stage_at=last.at if last else None,
    )


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
    ungrouped : int
        Converted tiles after the newest group, which wait for more tiles or for the end of the run.
    tiles_last_hour, tiles_last_day : int
        Converted.
    mosaics_last_hour, mosaics_last_day : int
        Finished groups.
    disk_free_gb : float
    """

    data_age_s: float | None
    lag_s: float
    failing: int
    ungrouped: int
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

        def published_since(seconds: float) -> int:
            # Of both themes.
            wanted = Product.kind == "mosaic", Product.published > now - seconds
            return session.scalar(select(func.count(Product.path)).where(*wanted)) or 0

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
            ungrouped=count_after_groups(session),
            tiles_last_hour=since(Tile.converted_at, 3600),
            tiles_last_day=since(Tile.converted_at, DAY_S),
            mosaics_last_hour=published_since(3600),
            mosaics_last_day=published_since(DAY_S),
            disk_free_gb=shutil.disk_usage(directory).free / 1e9,
        )


def _counts(session: Session, table: Any) -> dict[str, int]:
    rows = session.execute(
        select(table.state, func.count()).group_by(table.state).order_by(table.state)
    )
    return {str(state): int(count) for state, count in rows}


def troubles(registry: Registry) -> list[Trouble]:
    """Tiles, groups and files that are not well, the newest of each kind first."""
    with registry.read() as session:
        return _troubles(session)


def _troubles(session: Session) -> list[Trouble]:
    out: list[Trouble] = []
    for kind, table, bad in (("tile", Tile, _BAD_TILES), ("group", MosaicGroup, _BAD_GROUPS)):
        out += _work(session, kind, table, bad, newest=True)
    files = session.scalars(
        select(SubbandFile)
        .where(SubbandFile.state.in_((FileState.REJECTED, FileState.UNREADABLE)))
        .order_by(SubbandFile.first_seen.desc())
        .limit(RECENT)
    )
    return out + [
        Trouble(kind="file", id=file.path, state=file.state, reason=file.reason) for file in files
    ]


def set_aside(registry: Registry) -> list[Trouble]:
    """Tiles and groups that wait for an operator, in order of time."""
    with registry.read() as session:
        return [
            *_work(session, "tile", Tile, (TileState.QUARANTINED,)),
            *_work(session, "group", MosaicGroup, (GroupState.QUARANTINED, GroupState.HELD)),
        ]


def _work(
    session: Session,
    kind: str,
    table: type[Tile] | type[MosaicGroup],
    states: Sequence[str],
    *,
    newest: bool = False,
) -> list[Trouble]:
    """Work in some states: the newest rows, or all from old to new."""
    query = select(table.id, table.state, table.reason, table.start).where(table.state.in_(states))
    query = (
        query.order_by(table.start.desc()).limit(RECENT) if newest else query.order_by(table.start)
    )
    return [
        Trouble(kind=kind, id=row.id, state=row.state, reason=row.reason, start=row.start)
        for row in session.execute(query)
    ]
