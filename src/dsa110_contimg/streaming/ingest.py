"""Which files are in the input directory, and which tile each belongs to.

A file is known by path, size and modification time: a poll reads only what is new. The header's
first time is the tile; the name is a hint that nothing depends on.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.statements import batches
from dsa110_contimg.registry.states import TileState
from dsa110_contimg.registry.subband_files import (
    FoundFile,
    files_of_tile,
    known_files,
    next_tile_bytes,
    record_unreadable,
    register_file,
    subbands_of_tile,
)
from dsa110_contimg.registry.tiles import collecting_tiles, find_tile
from dsa110_contimg.streaming.headers import FoundHeader
from dsa110_contimg.telescope import Telescope
from dsa110_contimg.visibilities import observations, uvh5

_AT_ONCE = 64


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
    with registry.read() as session:
        known = known_files(session, [file.path for file in found])
    new, settled = [], []
    for file in found:
        before = known.get(str(file.path))
        same = before is not None and (before.size, before.mtime_ns) == (file.size, file.mtime_ns)
        again = before.look_again if before is not None else None
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
    for some in batches(files, _AT_ONCE):
        # Files are read before the transaction begins: it must not wait for a disk.
        headers = read([file.path for file in some])
        with registry.write() as session:
            for file, found in zip(some, headers, strict=True):
                if isinstance(found, BadInputError):
                    record_unreadable(session, file, str(found), grace_s, final)
                else:
                    count += register_file(session, file, *found)
    return count


def decide(
    registry: Registry, telescope: Telescope, min_subbands: int, grace_s: float, final: bool
) -> None:
    """Make collecting tiles ready, or reject them when their grace time is over."""
    now = time.time()
    with registry.read() as session:
        waiting = collecting_tiles(session)
    for tile_id in waiting:
        with registry.write() as session:
            tile = find_tile(session, tile_id)
            if tile is None or tile.state != TileState.COLLECTING:
                continue
            overdue = final or now - tile.last_arrival >= grace_s
            if tile.n_subbands >= telescope.n_subbands or (
                overdue and tile.n_subbands >= min_subbands
            ):
                tile.state = TileState.READY
            elif overdue:
                absent = set(range(telescope.n_subbands)) - subbands_of_tile(session, tile.id)
                tile.state = TileState.REJECTED
                tile.reason = observations.too_few_message(
                    tile.n_subbands, telescope.n_subbands, min_subbands, sorted(absent)
                )
                record_event(session, tile.id, tile.reason, "warning")


def files_of(registry: Registry, tile_id: str) -> list[Path]:
    """Registered sub-band files of a tile, in order of frequency from the top."""
    with registry.read() as session:
        return files_of_tile(session, tile_id)


def next_bytes(registry: Registry) -> int:
    """Size of the files of the next tile that waits: about what its Measurement Set takes."""
    with registry.read() as session:
        return next_tile_bytes(session)
