"""Tiles: one observation each."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg import records
from dsa110_contimg.artifacts.tiles import ConvertedTile, ImagedTile
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import events_about
from dsa110_contimg.registry.models import MosaicGroup, SubbandFile, Tile, TileImage
from dsa110_contimg.registry.read_models import GroupMention, LoggedEvent, ReadModel, WorkSummary
from dsa110_contimg.registry.statements import RECENT, existing, in_selection, in_time, neighbours
from dsa110_contimg.registry.states import FileState, TileState

_LONGEST_GROUP_S = DAY_S


def converted_tile(row: Tile) -> ConvertedTile:
    """A converted tile, where its row says that it lies now."""
    tile = records.from_json(ConvertedTile, row.converted or {})
    return replace(tile, ms_path=Path(row.ms_path), host=row.ms_host)


def newest_observation(registry: Registry) -> float | None:
    """Start of the newest tile; None without any."""
    with registry.read() as session:
        return session.scalar(select(func.max(Tile.start)))


def dead_antennas(registry: Registry) -> list[str]:
    """Newest tiles and the antennas without signal in them."""
    with registry.read() as session:
        return dead_antennas_in(session)


def dead_antennas_in(session: Session) -> list[str]:
    """Newest tiles and the antennas without signal in them."""
    rows = session.execute(
        select(Tile.id, Tile.converted).order_by(Tile.start.desc()).limit(RECENT)
    )
    return [
        f"{row.id}: {', '.join(row.converted['dead_antennas'])}"
        for row in rows
        if row.converted and row.converted["dead_antennas"]
    ]


class TileSummary(WorkSummary):
    """A tile. Times are Unix seconds."""

    state: TileState
    apparent_dec_deg: float
    n_subbands: int


class FileOfTile(ReadModel):
    """A sub-band file that belongs to a tile; size in bytes."""

    path: str
    subband: int | None
    state: FileState
    reason: str
    first_seen: float
    size: int


class TileDetail(TileSummary):
    """Everything that is known of a tile but what its files hold; images from old to new."""

    last_arrival: float
    ms_path: str
    ms_host: str
    converted: ConvertedTile | None
    converted_at: float | None
    files: list[FileOfTile]
    images: list[ImagedTile]
    groups: list[GroupMention]
    events: list[LoggedEvent]
    before: str | None
    after: str | None


def list_tiles(
    registry: Registry,
    since: float | None = None,
    until: float | None = None,
    state: str | None = None,
    limit: int = 1000,
) -> list[TileSummary]:
    """The newest tiles, by observation time, both ends included."""
    query = in_time(select(Tile), Tile.start, since, until).limit(limit)
    if state is not None:
        query = query.where(Tile.state == state)
    with registry.read() as session:
        return [TileSummary.model_validate(row) for row in session.scalars(query)]


def tiles_of_night(
    registry: Registry, since: float, until: float
) -> list[tuple[TileSummary, ImagedTile | None]]:
    """Tiles observed in a span of time, in order, each with its newest image."""
    newest = (
        select(func.max(TileImage.id))
        .where(TileImage.start >= since, TileImage.start < until)
        .group_by(TileImage.tile_id)
    )
    during = select(Tile).where(Tile.start >= since, Tile.start < until).order_by(Tile.start)
    with registry.read() as session:
        made = select(TileImage.tile_id, TileImage.record).where(TileImage.id.in_(newest))
        images = {
            row.tile_id: records.from_json(ImagedTile, row.record) for row in session.execute(made)
        }
        return [
            (TileSummary.model_validate(row), images.get(row.id)) for row in session.scalars(during)
        ]


def get_tile(registry: Registry, tile_id: str) -> TileDetail:
    """One tile with its files, conversion, images, groups and events.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    with registry.read() as session:
        row = existing(session, Tile, tile_id, f"no tile {tile_id!r}")
        files = session.scalars(
            select(SubbandFile)
            .where(SubbandFile.tile_id == tile_id)
            .order_by(SubbandFile.subband, SubbandFile.path)
        )
        images = session.scalars(
            select(TileImage.record).where(TileImage.tile_id == tile_id).order_by(TileImage.id)
        )
        return TileDetail(
            **TileSummary.model_validate(row).model_dump(),
            last_arrival=row.last_arrival,
            ms_path=row.ms_path,
            ms_host=row.ms_host,
            converted=records.from_json(ConvertedTile, row.converted) if row.converted else None,
            converted_at=row.converted_at,
            files=[FileOfTile.model_validate(file) for file in files],
            images=[records.from_json(ImagedTile, record) for record in images],
            groups=[
                GroupMention.model_validate(group)
                for group in groups_with(session, tile_id, row.start)
            ],
            events=events_about(session, [tile_id]),
            **neighbours(session, Tile, row.start).model_dump(),
        )


def groups_with(session: Session, tile_id: str, start: float) -> list[MosaicGroup]:
    """Mosaic groups that a tile, which began at that time, is in."""
    near = session.scalars(
        select(MosaicGroup).where(MosaicGroup.start.between(start - _LONGEST_GROUP_S, start + 1.0))
    )
    return [group for group in near if tile_id in group.tile_ids]


def newest_declination_deg(registry: Registry) -> float | None:
    """Where the array points according to the newest tile."""
    with registry.read() as session:
        return session.scalar(select(Tile.apparent_dec_deg).order_by(Tile.start.desc()).limit(1))


def converted_tiles(
    session: Session,
    since: float | None = None,
    until: float | None = None,
    tile_ids: Iterable[str] | None = None,
) -> list[ConvertedTile]:
    """Tiles whose Measurement Sets are kept, in order of time."""
    query = select(Tile).where(Tile.state == TileState.CONVERTED, Tile.ms_path != "")
    query = query.where(*in_selection(Tile.start, Tile.id, since, until, tile_ids))
    return [converted_tile(row) for row in session.scalars(query.order_by(Tile.start))]


def measurement_sets(
    session: Session, tile_ids: Iterable[str] | None = None, since: float | None = None
) -> dict[str, tuple[str, str]]:
    """Path of the Measurement Set, empty where it is gone, and its machine, by tile.

    Parameters
    ----------
    session : Session
    tile_ids : iterable of str, optional
        Default: all.
    since : float, optional
        Earliest time of observation, Unix seconds.
    """
    wanted = in_selection(Tile.start, Tile.id, since, None, tile_ids)
    rows = session.execute(select(Tile.id, Tile.ms_path, Tile.ms_host).where(*wanted))
    return {row.id: (row.ms_path, row.ms_host) for row in rows}


def count_converted(session: Session) -> int:
    """Number of tiles that are converted."""
    return session.scalar(select(func.count()).where(Tile.state == TileState.CONVERTED)) or 0


def find_tile(session: Session, tile_id: str) -> Tile | None:
    """The row of a tile."""
    return session.get(Tile, tile_id)


def collecting_tiles(session: Session) -> list[str]:
    """Tiles that wait for sub-band files, in order of time."""
    waiting = select(Tile.id).where(Tile.state == TileState.COLLECTING).order_by(Tile.start)
    return list(session.scalars(waiting))
