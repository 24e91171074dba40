"""Sub-band files that were seen in the input directory, and the tiles that they belong to."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import SubbandFile, Tile
from dsa110_contimg.registry.statements import AT_ONCE, batches
from dsa110_contimg.registry.states import FileState, TileState
from dsa110_contimg.visibilities import observations, uvh5

RARELY_S = 3600.0
"""Longest time between two attempts to read a file."""
_GIVE_UP_S = 7 * DAY_S
_LATE = (TileState.CONVERTING, TileState.CONVERTED)


@dataclass(frozen=True)
class FoundFile:
    """A finished file in the input directory."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class KnownFile:
    """What is recorded of a file.

    Attributes
    ----------
    size, mtime_ns : int
    look_again : float or None
        When it is to be read again, Unix seconds; None if that is not needed.
    """

    size: int
    mtime_ns: int
    look_again: float | None


def known_files(session: Session, paths: Iterable[Path]) -> dict[str, KnownFile]:
    """Files of the given ones that are recorded, by path."""
    known: dict[str, KnownFile] = {}
    for some in batches([str(path) for path in paths], AT_ONCE):
        rows = session.execute(
            select(
                SubbandFile.path, SubbandFile.size, SubbandFile.mtime_ns, SubbandFile.look_again
            ).where(SubbandFile.path.in_(some))
        )
        known |= {row.path: KnownFile(row.size, row.mtime_ns, row.look_again) for row in rows}
    return known


def register_file(
    session: Session, file: FoundFile, header: uvh5.SubbandHeader, number: int
) -> bool:
    """Record which tile a file belongs to.

    Parameters
    ----------
    session : Session
    file : FoundFile
    header : SubbandHeader
    number : int
        Of the sub-band.

    Returns
    -------
    bool
        False for a duplicate.
    """
    now = time.time()
    tile_id = observations.tile_id(header.time_key)
    tile = session.scalars(select(Tile).where(Tile.time_key == header.time_key)).one_or_none()
    if tile is None:
        if session.get(Tile, tile_id) is not None:
            # Two data sets within one second: the fraction tells them apart.
            tile_id = f"{tile_id}_{round(header.time_key % 1 * 86400e3) % 1000:03d}"
        tile = Tile(
            id=tile_id,
            time_key=header.time_key,
            start=observations.unix_seconds(header.time_key),
            apparent_dec_deg=float(np.rad2deg(header.apparent_dec_rad)),
            state=TileState.COLLECTING,
            last_arrival=now,
        )
        session.add(tile)
        session.flush()
    row = _row(session, file, now)
    row.subband, row.tile_id, row.reason, row.look_again = number, tile.id, "", None
    twin = session.scalars(
        select(SubbandFile).where(
            SubbandFile.tile_id == tile.id,
            SubbandFile.subband == number,
            SubbandFile.state == FileState.REGISTERED,
            SubbandFile.path != row.path,
        )
    ).first()
    if twin is not None:
        row.state = FileState.DUPLICATE
        row.reason = (
            f"duplicate of sub-band {number} of tile {tile.id}: {Path(twin.path).name} "
            "was there first"
        )
        record_event(session, tile.id, row.reason, "warning")
        return False
    row.state = FileState.REGISTERED
    if tile.state in _LATE:
        record_event(
            session,
            tile.id,
            f"{file.path.name} arrived after the tile was converted and is not in it",
            "warning",
        )
        return True
    session.flush()
    tile.n_subbands = (
        session.scalar(
            select(func.count()).where(
                SubbandFile.tile_id == tile.id, SubbandFile.state == FileState.REGISTERED
            )
        )
        or 0
    )
    tile.last_arrival = now
    if tile.state == TileState.REJECTED:
        tile.state, tile.reason = TileState.COLLECTING, ""
    return True


def _row(session: Session, file: FoundFile, now: float) -> SubbandFile:
    row = session.get(SubbandFile, str(file.path))
    if row is None:
        row = SubbandFile(
            path=str(file.path), first_seen=now, size=0, mtime_ns=0, state=FileState.UNREADABLE
        )
        session.add(row)
    row.size, row.mtime_ns = file.size, file.mtime_ns
    return row


def record_unreadable(
    session: Session, file: FoundFile, reason: str, grace_s: float, final: bool
) -> None:
    """A file that cannot be read is looked at again, ever more rarely: a disk may come back."""
    now = time.time()
    row = _row(session, file, now)
    row.reason = reason
    row.subband = row.tile_id = None
    age_s = now - row.first_seen
    row.look_again = None if final or age_s > _GIVE_UP_S else now + min(0.5 * age_s, RARELY_S)
    if not final and age_s < grace_s:
        row.state = FileState.UNREADABLE
    elif row.state != FileState.REJECTED:
        row.state = FileState.REJECTED
        record_event(session, file.path.name, reason, "warning")


def files_of_tile(session: Session, tile_id: str) -> list[Path]:
    """Registered sub-band files of a tile, in order of frequency from the top."""
    wanted = SubbandFile.tile_id == tile_id, SubbandFile.state == FileState.REGISTERED
    rows = select(SubbandFile.path).where(*wanted).order_by(SubbandFile.subband)
    return [Path(path) for path in session.scalars(rows)]


def subbands_of_tile(session: Session, tile_id: str) -> set[int]:
    """Numbers of the sub-bands of which a tile has a file."""
    wanted = SubbandFile.tile_id == tile_id, SubbandFile.state == FileState.REGISTERED
    rows = session.scalars(select(SubbandFile.subband).where(*wanted))
    return {number for number in rows if number is not None}


def next_tile_bytes(session: Session) -> int:
    """Size of the files of the next tile that waits: about what its Measurement Set takes."""
    waiting = Tile.state.in_((TileState.READY, TileState.FAILED))
    tile_id = session.scalar(select(Tile.id).where(waiting).order_by(Tile.start).limit(1))
    if tile_id is None:
        return 0
    total = select(func.sum(SubbandFile.size)).where(SubbandFile.tile_id == tile_id)
    return int(session.scalar(total) or 0)


def all_files_of_tile(session: Session, tile_id: str) -> list[Path]:
    """All sub-band files of a tile, duplicates too."""
    rows = session.scalars(select(SubbandFile.path).where(SubbandFile.tile_id == tile_id))
    return [Path(path) for path in rows]
