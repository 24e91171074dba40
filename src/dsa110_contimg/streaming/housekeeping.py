"""What may be removed, and when: intermediate files whose mosaics are published, and leftovers.

`find` only looks. A file that the database names is removed when its time is over and nothing that
is unfinished needs it: no mosaic group that is not published, no window that may still form, no
plan, no batch program. A file that the database does not name was left by something that was
killed; it goes after a day, unless a batch program runs, whose files no row names. Removal renames
first, so that nobody ever meets half a Measurement Set.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.durable import is_unfinished, remove_whole, size_bytes
from dsa110_contimg.executors.calls import Call, call
from dsa110_contimg.executors.own_disk import home_of, placed
from dsa110_contimg.operations.batch_programs import at_work
from dsa110_contimg.registry.database import Registry, Session
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.groups import groups_since, tiles_since
from dsa110_contimg.registry.plans import planned_folders
from dsa110_contimg.registry.retention import (
    Kept,
    forget_antennas,
    forget_images,
    forget_measurement_set,
    forget_steps,
    forget_subband_files,
    image_folders,
    is_needed,
    kept_files,
    oldest_with_files,
    published_moments,
)
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.registry.subband_files import all_files_of_tile
from dsa110_contimg.registry.tiles import measurement_sets
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming import groups

_HOUR_S = 3600.0
_OVER = "its mosaics are published"
_OURS = re.compile(r"\d{8}T\d{6}.*_[0-9a-f]{8}(\.ms)?$")


@dataclass(frozen=True)
class Removal:
    """Something that may go.

    Attributes
    ----------
    path : Path
    kind : str
        sub-band file, raw MS, image or leftover.
    reason : str
    size : int
        Bytes.
    tile_id : str
        Whose row names it; empty for leftovers.
    host : str
        On whose own disk it lies; empty if all see it.
    """

    path: Path
    kind: str
    reason: str
    size: int
    tile_id: str = ""
    host: str = ""


@dataclass(frozen=True)
class _Needs:
    """What the database says of tiles.

    Attributes
    ----------
    needed : set of str
        Tiles that something unfinished needs.
    published : dict of str to float
        When the last mosaic of each other tile was published, Unix seconds.
    """

    needed: set[str]
    published: dict[str, float]

    def over(self, tile_id: str, keep_h: float | None, now: float) -> bool:
        """True if a tile is done with, and published so long ago."""
        if keep_h is None or tile_id in self.needed or tile_id not in self.published:
            return False
        return now - self.published[tile_id] >= keep_h * _HOUR_S


def find(registry: Registry, settings: Settings, now: float | None = None) -> list[Removal]:
    """Everything that may be removed now, in order of path.

    Parameters
    ----------
    registry : Registry
    settings : Settings
        The `keep_` settings.
    now : float, optional
        Unix seconds; default: the clock.
    """
    now = time.time() if now is None else now
    batch = at_work(settings.root)
    with registry.read() as session:
        needs = _needs(session, settings, now)
        over = list(_named(session, settings, needs, now))
        kept = kept_files(session)
    # Disks are slow: they are looked at when the transaction is over.
    removals = [
        replace(removal, size=size_bytes(removal.path))
        for removal in over
        if not batch.needs(removal.path)
        and (removal.kind == "sub-band file" or removal.host or removal.path.exists())
    ]
    if not batch.programs:
        removals += _leftovers(settings, kept, {removal.path for removal in removals}, now)
    return sorted(removals, key=lambda removal: removal.path)


def remove(registry: Registry, settings: Settings, removals: list[Removal]) -> int:
    """Remove what `find` found; returns the bytes.

    A row forgets its Measurement Set before the files go, unless work on it has begun meanwhile.
    Of what lies on a machine's own disk only the row goes: the rest is left to `clear_own_disk`.
    """
    total, gone = 0, list[str]()
    for removal in removals:
        # Each takes its time, and a batch program may begin at any.
        batch = at_work(settings.root)
        if batch.needs(removal.path) or (batch.programs and removal.kind == "leftover"):
            continue
        if removal.kind in ("raw MS", "image") and not _forget(registry, removal):
            continue
        if not removal.host and remove_whole(removal.path):
            total += removal.size
        if removal.kind == "sub-band file":
            # Gone also if an earlier round was killed before its row was.
            gone.append(str(removal.path))
    with registry.write() as session:
        # The tile remembers what it was made of.
        forget_subband_files(session, gone)
        forget_steps(session)
        forget_antennas(session, settings.keep_antennas_d * DAY_S)
    if removals:
        registry.record_event(
            "housekeeping", f"removed {len(removals)} items, {total / 1e9:.2f} GB"
        )
    return total


def clearings(
    registry: Registry, settings: Settings, own_disks: Mapping[str, Path]
) -> list[Call[int]]:
    """Calls of `clear_own_disk` for each machine that has one."""
    if not own_disks or at_work(settings.root).programs:
        return []
    with registry.read() as session:
        kept = kept_files(session)
    return [
        call(
            clear_own_disk,
            own=placed(host, own),
            root=settings.root,
            kept=kept,
            keep_h=settings.keep_leftovers_h,
        )
        for host, own in sorted(own_disks.items())
    ]


def clear_own_disk(own: Path, root: Path, kept: Kept, keep_h: float) -> int:
    """Remove what no row names from this machine's own disk; returns the number.

    Parameters
    ----------
    own : Path
        Directory there.
    root : Path
        Whose files.
    kept : Kept
    keep_h : float
        Younger ones stay.
    """
    gone = 0
    for path in home_of(root, own).glob("*/*"):
        if not (is_unfinished(path.name) or _ours(path.name)) or kept.needs(path):
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= keep_h * _HOUR_S:
                gone += remove_whole(path)
    return gone


def _needs(session: Session, settings: Settings, now: float) -> _Needs:
    since = oldest_with_files(session)
    tiles = tiles_since(session, since)
    rows = groups_since(session, since)
    moments = published_moments(session, since)
    needed: set[str] = set()
    published: dict[str, float] = {}
    for group in rows:
        if group.state == GroupState.PUBLISHED and group.id in moments:
            for tile_id in group.tile_ids:
                published[tile_id] = max(published.get(tile_id, 0.0), moments[group.id])
        else:
            needed.update(group.tile_ids)
    known = [
        groups.GroupableTile(
            tile.id,
            tile.start,
            tile.apparent_dec_deg,
            groups.Prospect.NEVER
            if tile.state in (TileState.REJECTED, TileState.QUARANTINED)
            else groups.Prospect.CONVERTED,
            tile.last_arrival,
        )
        for tile in tiles
    ]
    # The next window of a run begins with the last tiles of the one before.
    last_of_group = {group.tile_ids[-1] for group in rows}
    for run in groups.runs(known, settings.max_gap_s):
        covered = max((i + 1 for i, t in enumerate(run) if t.id in last_of_group), default=0)
        if max(tile.arrived for tile in run) > now - settings.leftover_s or covered < len(run):
            needed.update(tile.id for tile in run[max(0, covered - settings.group_overlap) :])
    return _Needs(needed, published)


def _named(session: Session, settings: Settings, needs: _Needs, now: float) -> Iterator[Removal]:
    """Files of tiles that are done with."""
    places = measurement_sets(session, since=oldest_with_files(session))
    for tile_id, (ms_path, ms_host) in places.items():
        if ms_path and needs.over(tile_id, settings.keep_ms_h, now):
            yield Removal(Path(ms_path), "raw MS", _OVER, 0, tile_id, ms_host)
        if needs.over(tile_id, settings.keep_subbands_h, now):
            for path in all_files_of_tile(session, tile_id):
                yield Removal(path, "sub-band file", _OVER, 0, tile_id)
    planned = planned_folders(session)
    for tile_id, folder in image_folders(session):
        if folder not in planned and needs.over(tile_id, settings.keep_images_h, now):
            yield Removal(folder, "image", _OVER, 0, tile_id)


def _leftovers(settings: Settings, kept: Kept, going: set[Path], now: float) -> Iterator[Removal]:
    """What no row names, older than a limit."""
    named = kept.named | going
    folders = {settings.root / name for name in ("ms", "images", "caltables")}
    folders |= {path.parent for path in named if path.suffix == ".ms"}
    public = {layout.published_mosaics(settings.root), layout.published_catalogues(settings.root)}
    # What a job writes beside these is hidden in the same way until it is whole.
    public |= {folder.parent for folder in public}
    folders |= public
    for folder in sorted(folders):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path in going or kept.needs(path):
                continue
            with contextlib.suppress(FileNotFoundError):
                # Our own are named after a tile or a mosaic; what people put there is theirs.
                if not is_unfinished(path.name) and (folder in public or not _ours(path.name)):
                    continue
                if now - path.stat().st_mtime >= settings.keep_leftovers_h * _HOUR_S:
                    yield Removal(
                        path, "leftover", "no row of the database names it", size_bytes(path)
                    )


def _ours(name: str) -> bool:
    return name.startswith("mosaic_") or _OURS.match(name) is not None


def _forget(registry: Registry, removal: Removal) -> bool:
    """Take the path out of its row; False if a group needs the tile by now."""
    with registry.write() as session:
        if is_needed(session, removal.tile_id):
            return False
        if removal.kind == "raw MS":
            forget_measurement_set(session, removal.tile_id)
        else:
            forget_images(session, removal.tile_id, removal.path)
        message = f"{removal.kind} {removal.path} removed: {removal.reason}"
        record_event(session, removal.tile_id, message)
    return True
