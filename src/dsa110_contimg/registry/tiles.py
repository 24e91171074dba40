"""Pieces that queries have in common."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg import records
from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Tile, TileImage, TileState
from dsa110_contimg.registry.statements import RECENT, existing, in_selection, in_time


def converted_tile(row: Tile) -> ConvertedTile:
    """A converted tile, where its row says that it lies now."""
    told = records.from_json(ConvertedTile, row.converted or {})
    return replace(told, ms_path=Path(row.ms_path), host=row.ms_host)


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


def list_tiles(
    registry: Registry,
    since: float | None = None,
    until: float | None = None,
    state: str | None = None,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """The newest tiles, by observation time, both ends included."""
    query = in_time(select(Tile), Tile.start, since, until).limit(limit)
    if state is not None:
        query = query.where(Tile.state == state)
    with registry.read() as session:
        return [_tile_row(row) for row in session.scalars(query)]


def get_tile(registry: Registry, tile_id: str) -> dict[str, Any]:
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


def measurement_sets(session: Session, tile_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Path of the Measurement Set, empty where it is gone, and its machine, by tile."""
    wanted = Tile.id.in_(list(tile_ids))
    rows = session.execute(select(Tile.id, Tile.ms_path, Tile.ms_host).where(wanted))
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
