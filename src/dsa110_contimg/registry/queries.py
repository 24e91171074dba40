"""Questions that people and pages ask."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    Alert,
    CalibrationSet,
    Event,
    FileState,
    GroupState,
    Job,
    Mosaic,
    MosaicGroup,
    Product,
    SubbandFile,
    Tile,
    TileAntennasRow,
    TileImage,
    TileState,
)

_Row = TypeVar("_Row")
_RECENT = 20
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
            "dead_antennas": _dead_antennas(session),
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
                    .limit(_RECENT)
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


def tile_antennas(
    registry: Registry, since: float | None, until: float | None, limit: int
) -> list[TileAntennasRow]:
    """Rows of the newest tiles, the newest first."""
    query = _in_time(select(TileAntennasRow), TileAntennasRow.start, since, until).limit(limit)
    with registry.read() as session:
        rows = list(session.scalars(query))
        session.expunge_all()
        return rows


def tile_antennas_beside(
    registry: Registry, first: float, last: float, count: int
) -> tuple[float | None, float | None]:
    """Start of the last tile before `first`, and of at most the `count`-th after `last`."""
    start = TileAntennasRow.start
    with registry.read() as session:
        before = session.scalar(select(func.max(start)).where(start < first))
        after = list(
            session.scalars(select(start).where(start > last).order_by(start).limit(count))
        )
    return before, after[-1] if after else None


def _counts(session: Session, table: Any) -> dict[str, int]:
    rows = session.execute(
        select(table.state, func.count()).group_by(table.state).order_by(table.state)
    )
    return {str(state): int(count) for state, count in rows}


def newest_observation(registry: Registry) -> float | None:
    """Start of the newest tile; None without any."""
    with registry.read() as session:
        return session.scalar(select(func.max(Tile.start)))


def dead_antennas(registry: Registry) -> list[str]:
    """Newest tiles and the antennas without signal in them."""
    with registry.read() as session:
        return _dead_antennas(session)


def _dead_antennas(session: Session) -> list[str]:
    """Newest tiles and the antennas without signal in them."""
    rows = session.execute(
        select(Tile.id, Tile.converted).order_by(Tile.start.desc()).limit(_RECENT)
    )
    return [
        f"{row.id}: {', '.join(row.converted['dead_antennas'])}"
        for row in rows
        if row.converted and row.converted["dead_antennas"]
    ]


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
            .limit(_RECENT)
        )
        out += [{"kind": kind, **row._mapping} for row in rows]
    files = session.execute(
        select(SubbandFile.path.label("id"), SubbandFile.state, SubbandFile.reason)
        .where(SubbandFile.state.in_((FileState.REJECTED, FileState.UNREADABLE)))
        .order_by(SubbandFile.first_seen.desc())
        .limit(_RECENT)
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


def calibration_sets(registry: Registry, limit: int | None = None) -> list[dict[str, Any]]:
    """The newest calibration sets, in order of data time."""
    newest = select(CalibrationSet).order_by(
        CalibrationSet.observed.desc(), CalibrationSet.id.desc()
    )
    with registry.read() as session:
        return [_set_dict(row) for row in reversed(session.scalars(newest.limit(limit)).all())]


def calibration_set(registry: Registry, set_id: str) -> dict[str, Any]:
    """One calibration set, its quality too.

    Raises
    ------
    UsageError
        If it is unknown.
    """
    with registry.read() as session:
        row = _set_row(session, set_id)
        return {**_set_dict(row), "quality": row.quality}


def _set_dict(row: CalibrationSet) -> dict[str, Any]:
    return {
        "id": row.id,
        "tile": row.tile_id,
        "path": row.path,
        "observed": row.observed,
        "apparent_dec_deg": row.apparent_dec_deg,
        "bandpass_valid_s": row.bandpass_valid_s,
        "gains_valid_s": row.gains_valid_s,
        "standing": row.standing,
        "remark": row.remark,
        "flagged_fraction": row.quality["flagged_fraction"],
        "median_snr": row.quality["median_snr"],
        "reference_antenna": row.quality["reference_antenna"],
        "beam": _beam(row.quality.get("beam")),
    }


def _beam(measured: dict[str, Any] | None) -> dict[str, Any] | None:
    """A measured beam of the array, without those of single antennas; None where there is none."""
    if not measured or not measured["n_sources"]:
        return None
    shape = {key: value for key, value in measured["shape"].items() if key != "antennas"}
    return {**measured, "shape": shape}


def set_standing(registry: Registry, set_id: str, standing: str, remark: str) -> None:
    """Record what operators think of a calibration set.

    Raises
    ------
    UsageError
        If it is unknown.
    """
    with registry.write() as session:
        row = _set_row(session, set_id)
        row.standing, row.remark = standing, remark
        message = f"{standing}{': ' + remark if remark else ''}"
        session.add(Event(at=time.time(), level="info", subject=set_id, message=message))


def _set_row(session: Session, set_id: str) -> CalibrationSet:
    hint = "'dsa110-contimg caltables list' shows them"
    return existing(session, CalibrationSet, set_id, f"no calibration set {set_id!r}; {hint}")


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


def tiles(
    registry: Registry,
    since: float | None = None,
    until: float | None = None,
    state: str | None = None,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """The newest tiles, by observation time, both ends included."""
    query = _in_time(select(Tile), Tile.start, since, until).limit(limit)
    if state is not None:
        query = query.where(Tile.state == state)
    with registry.read() as session:
        return [_tile_row(row) for row in session.scalars(query)]


def tile(registry: Registry, tile_id: str) -> dict[str, Any]:
    """One tile with what its conversion told and its images.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    with registry.read() as session:
        row = existing(session, Tile, tile_id, f"no tile {tile_id!r}")
        images = session.scalars(
            select(TileImage.record).where(TileImage.tile_id == tile_id).order_by(TileImage.id)
        )
        return {**_tile_row(row), "converted": row.converted, "images": list(images)}


def _tile_row(row: Tile) -> dict[str, Any]:
    return {
        "id": row.id,
        "start": row.start,
        "apparent_dec_deg": row.apparent_dec_deg,
        "state": row.state,
        "n_subbands": row.n_subbands,
        "reason": row.reason,
    }


def _in_time(
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


def mosaics(
    registry: Registry,
    limit: int = 1000,
    since: float | None = None,
    until: float | None = None,
    state: str | None = None,
) -> list[dict[str, Any]]:
    """The newest mosaics, by observation time, both ends included."""
    query = _in_time(select(Mosaic), Mosaic.start, since, until).limit(limit)
    if state is not None:
        query = query.where(Mosaic.state == state)
    with registry.read() as session:
        rows = session.scalars(query)
        return [
            {
                "name": row.name,
                "start": row.start,
                "tiles": len(row.record["mosaic"]["tile_ids"]),
                "method": row.method,
                "state": row.state,
                "verdict": row.verdict,
            }
            for row in rows
        ]


def mosaic(registry: Registry, name: str) -> dict[str, Any]:
    """One mosaic with its gates and its public files.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    with registry.read() as session:
        hint = "'dsa110-contimg-mosaic list' shows what there is"
        row = existing(session, Mosaic, name, f"no mosaic {name!r}; {hint}")
        products = session.scalars(
            select(Product)
            .where(Product.name.in_([name, f"{name}_sources"]))
            .order_by(Product.path)
        )
        return {
            "name": name,
            "group_id": row.group_id,
            "state": row.state,
            "verdict": row.verdict,
            "record": row.record,
            "products": [
                {"kind": p.kind, "path": p.path, "sha256": p.sha256, "size": p.size}
                for p in products
            ],
        }


def mosaic_neighbours(registry: Registry, name: str) -> dict[str, str | None]:
    """Names of the mosaics observed before and after one."""
    with registry.read() as session:
        start = select(Mosaic.start).where(Mosaic.name == name).scalar_subquery()
        before = select(Mosaic.name).where(Mosaic.start < start).order_by(Mosaic.start.desc())
        after = select(Mosaic.name).where(Mosaic.start > start).order_by(Mosaic.start)
        return {"before": session.scalar(before.limit(1)), "after": session.scalar(after.limit(1))}


def report_path(registry: Registry, name: str) -> Path | None:
    """The page of a published mosaic; None if it is no such thing."""
    with registry.read() as session:
        page = select(Product.path).where(Product.name == name, Product.kind == "report")
        found = session.scalar(page)
    return None if found is None else Path(found)


def published_before(session: Session, start: float) -> list[dict[str, Any]]:
    """Records of the newest published mosaics that were observed before a moment."""
    return list(
        session.scalars(
            select(Mosaic.record)
            .where(Mosaic.state == "published", Mosaic.start < start)
            .order_by(Mosaic.start.desc())
            .limit(_RECENT)
        )
    )


def newest_declination_deg(registry: Registry) -> float | None:
    """Where the array points according to the newest tile."""
    with registry.read() as session:
        return session.scalar(select(Tile.apparent_dec_deg).order_by(Tile.start.desc()).limit(1))
