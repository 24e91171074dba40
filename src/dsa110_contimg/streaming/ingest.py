"""Which files are in the input directory, and which tile each belongs to.

A file is known by path, size and modification time: a poll reads only what is new. The header's
first time is the tile; the name is a hint that nothing depends on.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, FileState, SubbandFile, Tile, TileState
from dsa110_contimg.streaming.headers import FoundHeader
from dsa110_contimg.telescope import Telescope
from dsa110_contimg.visibilities import observations, uvh5

_AT_ONCE = 64
_ASKED_AT_ONCE = 500
RARELY_S, _GIVE_UP_S = 3600.0, 7 * DAY_S
_ONE_OBSERVATION_S = 120.0
_LATE = (TileState.CONVERTING, TileState.CONVERTED)


@dataclass(frozen=True)
class FoundFile:
    """A finished file in the input directory."""

    path: Path
    size: int
    mtime_ns: int


class Watch:
    """Looks into the input directory; a look at known files costs next to nothing.

    What it remembers is only what the database says too: whatever is not remembered is asked there,
    so that two programs may watch one directory.

    Parameters
    ----------
    registry : Registry
    directory : Path
    """

    def __init__(self, registry: Registry, directory: Path):
        self._registry = registry
        self._directory = directory
        self._settled: dict[str, tuple[int, int]] = {}

    def new_files(self, settle_s: float) -> list[FoundFile]:
        """Finished files that are new or changed, or could not be read and are due again.

        Parameters
        ----------
        settle_s : float
            As of `scan`.

        Raises
        ------
        UsageError
            If the directory cannot be read.
        """
        found = scan(self._directory, settle_s, self._settled)
        new, settled = _compare(self._registry, found)
        for file in settled:
            self._settled[file.path.name] = (file.size, file.mtime_ns)
        return new


def scan(
    directory: Path, settle_s: float, known: dict[str, tuple[int, int]] | None = None
) -> list[FoundFile]:
    """Finished sub-band files: named as such, not hidden, not incomplete, not changing.

    Parameters
    ----------
    directory : Path
    settle_s : float
        A file changed less than this ago may still be growing; zero takes all.
    known : dict of str to (int, int), optional
        Names with size and time (ns) of files to leave out; loses those that are gone.

    Raises
    ------
    UsageError
        If the directory cannot be read.
    """
    now_ns = time.time_ns()
    known = {} if known is None else known
    gone = set(known)
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                before = known.get(entry.name)
                gone.discard(entry.name)
                if before is None and uvh5.parse_name(Path(entry.name)) is None:
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    # Gone meanwhile, or a link or an inode that leads nowhere.
                    continue
                if before == (status.st_size, status.st_mtime_ns):
                    continue
                age_s = (now_ns - status.st_mtime_ns) / 1e9
                if settle_s and (status.st_size == 0 or 0 <= age_s < settle_s):
                    continue
                found.append(FoundFile(Path(entry.path), status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise UsageError(f"{directory}: cannot be read ({error.strerror})") from error
    for name in gone:
        del known[name]
    return sorted(found, key=lambda file: file.path.name)


def unknown(registry: Registry, found: Iterable[FoundFile]) -> list[FoundFile]:
    """Files that are new or changed, and those that could not be read and are due again."""
    return _compare(registry, list(found))[0]


def _compare(
    registry: Registry, found: Sequence[FoundFile]
) -> tuple[list[FoundFile], list[FoundFile]]:
    """Files to be recorded, and those that are and need no other look."""
    now = time.time()
    rows: dict[str, tuple[int, int, float | None]] = {}
    with registry.read() as session:
        for some in _batches(found, _ASKED_AT_ONCE):
            answer = session.execute(
                select(
                    SubbandFile.path, SubbandFile.size, SubbandFile.mtime_ns, SubbandFile.look_again
                ).where(SubbandFile.path.in_([str(file.path) for file in some]))
            )
            rows |= {path: (size, mtime, again) for path, size, mtime, again in answer}
    new, settled = [], []
    for file in found:
        size, mtime_ns, again = rows.get(str(file.path), (-1, -1, None))
        same = (size, mtime_ns) == (file.size, file.mtime_ns)
        if not same or (again is not None and again <= now):
            new.append(file)
        elif again is None:
            settled.append(file)
    return new, settled


def register(
    registry: Registry,
    files: Iterable[FoundFile],
    read: Callable[[Sequence[Path]], list[FoundHeader]],
    grace_s: float,
    final: bool,
) -> int:
    """Read headers and record which tile each file belongs to.

    Parameters
    ----------
    registry : Registry
    files : iterable of FoundFile
    read : callable
        Reads the headers of some files.
    grace_s : float
        A file that cannot be read is asked again for so long, then rejected.
    final : bool
        Nothing more will arrive: reject at once.

    Returns
    -------
    int
        Files registered.
    """
    count = 0
    for some in _batches(files, _AT_ONCE):
        # Files are read before the transaction begins: it must not wait for a disk.
        headers = read([file.path for file in some])
        with registry.write() as session:
            for file, found in zip(some, headers, strict=True):
                if isinstance(found, BadInputError):
                    _record_unreadable(session, file, str(found), grace_s, final)
                else:
                    count += _record(session, file, *found)
    return count


def _batches(files: Iterable[FoundFile], count: int) -> Iterator[list[FoundFile]]:
    rest = iter(files)
    while some := list(islice(rest, count)):
        yield some


def _record(session: Session, file: FoundFile, header: uvh5.SubbandHeader, number: int) -> bool:
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
        session.add(Event(at=now, level="warning", subject=tile.id, message=row.reason))
        return False
    row.state = FileState.REGISTERED
    if tile.state in _LATE:
        session.add(
            Event(
                at=now,
                level="warning",
                subject=tile.id,
                message=f"{file.path.name} arrived after the tile was converted and is not in it",
            )
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


def _record_unreadable(
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
        session.add(Event(at=now, level="warning", subject=file.path.name, message=reason))


def groups_by_name(paths: Iterable[Path]) -> list[list[Path]]:
    """Files of one observation each, as far as their names tell: for what cannot be read yet.

    Names carry the writer's clock: within an observation they lie up to 82 s apart, and at least
    234 s lie between one observation's last and the next one's first.
    """
    stamped = []
    for path in paths:
        parsed = uvh5.parse_name(path)
        if parsed is not None:
            stamped.append((datetime.fromisoformat(parsed[0]).timestamp(), path))
    out: list[list[Path]] = []
    first = -np.inf
    for at, path in sorted(stamped):
        if at - first > _ONE_OBSERVATION_S:
            out.append([])
            first = at
        out[-1].append(path)
    return out


def decide(
    registry: Registry, telescope: Telescope, min_subbands: int, grace_s: float, final: bool
) -> None:
    """Make collecting tiles ready, or reject them when their grace time is over."""
    now = time.time()
    with registry.read() as session:
        waiting = session.scalars(
            select(Tile.id).where(Tile.state == TileState.COLLECTING).order_by(Tile.start)
        ).all()
    for tile_id in waiting:
        with registry.write() as session:
            tile = session.get_one(Tile, tile_id)
            if tile.state != TileState.COLLECTING:
                continue
            overdue = final or now - tile.last_arrival >= grace_s
            if tile.n_subbands >= telescope.n_subbands or (
                overdue and tile.n_subbands >= min_subbands
            ):
                tile.state = TileState.READY
            elif overdue:
                have = session.scalars(
                    select(SubbandFile.subband).where(
                        SubbandFile.tile_id == tile.id, SubbandFile.state == FileState.REGISTERED
                    )
                ).all()
                absent = sorted(
                    set(range(telescope.n_subbands)) - {n for n in have if n is not None}
                )
                tile.state = TileState.REJECTED
                tile.reason = observations.too_few_message(
                    tile.n_subbands, telescope.n_subbands, min_subbands, absent
                )
                session.add(Event(at=now, level="warning", subject=tile.id, message=tile.reason))


def files_of(registry: Registry, tile_id: str) -> list[Path]:
    """Registered sub-band files of a tile, in order of frequency from the top."""
    with registry.read() as session:
        return [
            Path(path)
            for path in session.scalars(
                select(SubbandFile.path)
                .where(SubbandFile.tile_id == tile_id, SubbandFile.state == FileState.REGISTERED)
                .order_by(SubbandFile.subband)
            )
        ]


def next_bytes(registry: Registry) -> int:
    """Size of the files of the next tile that waits: about what its Measurement Set takes."""
    waiting = Tile.state.in_((TileState.READY, TileState.FAILED))
    with registry.read() as session:
        tile_id = session.scalar(select(Tile.id).where(waiting).order_by(Tile.start).limit(1))
        if tile_id is None:
            return 0
        total = select(func.sum(SubbandFile.size)).where(SubbandFile.tile_id == tile_id)
        return int(session.scalar(total) or 0)
