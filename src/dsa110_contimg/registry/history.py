"""What happened to tiles and mosaic groups, for people who look at them one by one."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    CalibrationChoice,
    Event,
    GroupState,
    Job,
    JobState,
    Mosaic,
    MosaicGroup,
    Step,
    SubbandFile,
    Tile,
    TileImage,
    TileState,
)
from dsa110_contimg.registry.statements import existing

_MOST_EVENTS = 100
_LONGEST_GROUP_S = DAY_S


def night(
    registry: Registry, since: float, until: float
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Tiles observed in a span of time, in order, each with the record of its newest image."""
    newest = (
        select(func.max(TileImage.id))
        .where(TileImage.start >= since, TileImage.start < until)
        .group_by(TileImage.tile_id)
    )
    with registry.read() as session:
        records = select(TileImage.tile_id, TileImage.record).where(TileImage.id.in_(newest))
        images = {row.tile_id: row.record for row in session.execute(records)}
        rows = session.scalars(
            select(Tile).where(Tile.start >= since, Tile.start < until).order_by(Tile.start)
        )
        return [(_work(row), images.get(row.id)) for row in rows]


def tile(registry: Registry, tile_id: str) -> dict[str, Any]:
    """Everything that is known of a tile but what its files hold.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    with registry.read() as session:
        row = existing(session, Tile, tile_id, f"no tile {tile_id!r}")
        files = session.execute(
            select(
                SubbandFile.path,
                SubbandFile.subband,
                SubbandFile.state,
                SubbandFile.reason,
                SubbandFile.first_seen,
                SubbandFile.size,
            )
            .where(SubbandFile.tile_id == tile_id)
            .order_by(SubbandFile.subband, SubbandFile.path)
        )
        images = session.execute(
            select(TileImage.calibration_set_id, TileImage.record)
            .where(TileImage.tile_id == tile_id)
            .order_by(TileImage.id.desc())
        )
        return {
            **_work(row),
            "last_arrival": row.last_arrival,
            "n_subbands": row.n_subbands,
            "ms_path": row.ms_path,
            "ms_host": row.ms_host,
            "converted": row.converted,
            "converted_at": row.converted_at,
            "files": [dict(file._mapping) for file in files],
            "images": [dict(image._mapping) for image in images],
            "groups": [
                {"id": one.id, "state": one.state}
                for one in groups_with(session, row.id, row.start)
            ],
            "events": _events(session, [tile_id]),
            **_neighbours(session, Tile, row.start),
        }


def group(registry: Registry, group_id: str) -> dict[str, Any]:
    """Everything that is known of a mosaic group but what its files hold.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    with registry.read() as session:
        row = existing(session, MosaicGroup, group_id, f"no mosaic group {group_id!r}")
        tiles = session.execute(
            select(Tile.id, Tile.start, Tile.state, Tile.reason)
            .where(Tile.id.in_(row.tile_ids))
            .order_by(Tile.start)
        )
        mosaics = session.execute(
            select(Mosaic.name, Mosaic.state, Mosaic.verdict).where(Mosaic.group_id == group_id)
        ).all()
        names = [mosaic.name for mosaic in mosaics]
        steps = session.execute(
            select(Step.stage, func.count().label("calls"), func.max(Step.at).label("last"))
            .where(Step.group_id == group_id)
            .group_by(Step.stage)
            .order_by(func.min(Step.at))
        )
        choices = session.scalars(
            select(CalibrationChoice)
            .where(CalibrationChoice.subject.in_([group_id, *names]))
            .order_by(CalibrationChoice.id.desc())
        )
        return {
            **_work(row),
            "finished_at": row.finished_at,
            "tile_ids": list(row.tile_ids),
            "tiles": [dict(one._mapping) for one in tiles],
            "mosaics": [dict(mosaic._mapping) for mosaic in mosaics],
            "steps": [dict(step._mapping) for step in steps],
            "choices": [
                {
                    "at": one.at,
                    "bandpass": one.bandpass_id,
                    "gains": one.gains_id,
                    "reasons": one.reasons,
                }
                for one in choices
            ],
            "events": _events(session, [group_id, *names]),
            **_neighbours(session, MosaicGroup, row.start),
        }


def groups(
    registry: Registry, state: str | None = None, before: float | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """The newest mosaic groups, by observation time."""
    query = select(MosaicGroup).order_by(MosaicGroup.start.desc()).limit(limit)
    if state is not None:
        query = query.where(MosaicGroup.state == state)
    if before is not None:
        query = query.where(MosaicGroup.start < before)
    with registry.read() as session:
        return [_work(row) | {"n_tiles": len(row.tile_ids)} for row in session.scalars(query)]


def at_work(registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """What is being converted, processed and run at the moment."""
    with registry.read() as session:
        tiles = session.scalars(
            select(Tile).where(Tile.state == TileState.CONVERTING).order_by(Tile.start)
        )
        working = session.scalars(
            select(MosaicGroup)
            .where(MosaicGroup.state == GroupState.PROCESSING)
            .order_by(MosaicGroup.start)
        )
        jobs = session.scalars(select(Job).where(Job.state == JobState.RUNNING).order_by(Job.id))
        return {
            "tiles": [_work(row) for row in tiles],
            "groups": [_work(row) | _latest_step(session, row.id) for row in working],
            "jobs": [
                {
                    "id": job.id,
                    "type": job.type,
                    "state": job.state,
                    "stage": job.stage,
                    "fraction": job.fraction,
                    "message": job.message,
                    "started": job.started,
                }
                for job in jobs
            ],
        }


def events(registry: Registry, level: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """The newest events, the last one first."""
    query = select(Event).order_by(Event.id.desc()).limit(limit)
    if level is not None:
        query = query.where(Event.level == level)
    with registry.read() as session:
        return [_event(row) for row in session.scalars(query)]


def _work(row: Tile | MosaicGroup) -> dict[str, Any]:
    """What every row of claimable work tells."""
    told: dict[str, Any] = {
        name: getattr(row, name)
        for name in (
            "id",
            "start",
            "state",
            "attempt",
            "failures",
            "owner",
            "lease_until",
            "not_before",
            "reason",
        )
    }
    if isinstance(row, Tile):
        told["apparent_dec_deg"] = row.apparent_dec_deg
    return told


def _latest_step(session: Session, group_id: str) -> dict[str, Any]:
    row = session.execute(
        select(Step.stage, Step.at).where(Step.group_id == group_id).order_by(Step.at.desc())
    ).first()
    return {"stage": row.stage if row else "", "stage_at": row.at if row else None}


def groups_with(session: Session, tile_id: str, start: float) -> list[MosaicGroup]:
    """Mosaic groups that a tile, which began at that time, is in."""
    near = session.scalars(
        select(MosaicGroup).where(MosaicGroup.start.between(start - _LONGEST_GROUP_S, start + 1.0))
    )
    return [group for group in near if tile_id in group.tile_ids]


def _neighbours(
    session: Session, table: type[Tile] | type[MosaicGroup], start: float
) -> dict[str, str | None]:
    """Names of the rows observed before and after."""
    before = select(table.id).where(table.start < start).order_by(table.start.desc()).limit(1)
    after = select(table.id).where(table.start > start).order_by(table.start).limit(1)
    return {"before": session.scalar(before), "after": session.scalar(after)}


def _events(session: Session, subjects: Sequence[str]) -> list[dict[str, Any]]:
    rows = session.scalars(
        select(Event)
        .where(Event.subject.in_(subjects))
        .order_by(Event.id.desc())
        .limit(_MOST_EVENTS)
    )
    return [_event(row) for row in rows]


def _event(row: Event) -> dict[str, Any]:
    return {"at": row.at, "level": row.level, "subject": row.subject, "message": row.message}
