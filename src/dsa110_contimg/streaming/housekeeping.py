"""What may be removed, and when: intermediate files whose mosaics are published, and leftovers.

`find` only looks. A file that the database names is removed when its time is over and nothing that
is unfinished needs it: no mosaic group that is not published, no window that may still form, no
plan, no batch program. A file that the database does not name was left by something that was
killed; it goes after a day, unless a batch program runs, whose files no row names. Removal renames
first, so that nobody ever meets half a Measurement Set.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dsa110_contimg import layout
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.durable import size_bytes
from dsa110_contimg.pipeline.own_disk import OnHost, home_of
from dsa110_contimg.pipeline.protection import at_work
from dsa110_contimg.products.publish import HIDDEN_COPY
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    CalibrationSet,
    Event,
    GroupState,
    Mosaic,
    MosaicGroup,
    Plan,
    Product,
    Step,
    SubbandFile,
    Tile,
    TileAntennasRow,
    TileImage,
    TileState,
)
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming import groups

_GOING = ".removing-"
_HOUR_S = 3600.0
_ROWS_AT_ONCE = 500
_OVER = "its mosaics are published"
_OURS = re.compile(r"\d{8}T\d{6}.*_[0-9a-f]{8}(\.ms)?(\.part-[0-9a-f]{8})?$")


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


@dataclass(frozen=True)
class Kept:
    """What is no leftover.

    Attributes
    ----------
    named : set of Path
        Files and directories that rows name.
    working : set of str
        Tiles that are worked on.
    """

    named: set[Path]
    working: set[str]

    def needs(self, path: Path) -> bool:
        """True if a file is no leftover."""
        return path in self.named or any(path.name.startswith(tile) for tile in self.working)


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
        kept = _kept(session)
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
        if not removal.host and _delete(removal.path):
            total += removal.size
        if removal.kind == "sub-band file":
            # Gone also if an earlier round was killed before its row was.
            gone.append(str(removal.path))
    with registry.write() as session:
        unfinished = select(MosaicGroup.id).where(
            MosaicGroup.state.in_((GroupState.READY, GroupState.PROCESSING, GroupState.FAILED))
        )
        # The tile remembers what it was made of; a day has four thousand of these rows.
        for begin in range(0, len(gone), _ROWS_AT_ONCE):
            some = gone[begin : begin + _ROWS_AT_ONCE]
            session.execute(delete(SubbandFile).where(SubbandFile.path.in_(some)))
        session.execute(delete(Step).where(Step.group_id.not_in(unfinished)))
        newest = session.scalar(select(func.max(TileAntennasRow.start)))
        if newest is not None:
            oldest = newest - settings.keep_antennas_d * DAY_S
            session.execute(delete(TileAntennasRow).where(TileAntennasRow.start < oldest))
    if removals:
        registry.record_event(
            "housekeeping", f"removed {len(removals)} items, {total / 1e9:.2f} GB"
        )
    return total


def clearings(
    registry: Registry, settings: Settings, own_disks: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """Arguments of `clear_own_disk` for each machine that has one."""
    if not own_disks or at_work(settings.root).programs:
        return []
    with registry.read() as session:
        kept = _kept(session)
    return [
        {
            "own": OnHost(host, own),
            "root": settings.root,
            "kept": kept,
            "keep_h": settings.keep_leftovers_h,
        }
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
        if not _ours(path.name) or kept.needs(path):
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= keep_h * _HOUR_S:
                gone += _delete(path)
    return gone


def _needs(session: Session, settings: Settings, now: float) -> _Needs:
    since = _since(session)
    tiles = session.execute(
        select(Tile.id, Tile.start, Tile.apparent_dec_deg, Tile.state, Tile.last_arrival).where(
            Tile.start >= since
        )
    ).all()
    rows = list(session.scalars(select(MosaicGroup).where(MosaicGroup.start >= since)))
    moments: dict[str, float] = {
        str(group): float(published)
        for group, published in session.execute(
            select(Mosaic.group_id, Product.published)
            .join(Product, Product.name == Mosaic.name)
            .where(Mosaic.start >= since)
        )
    }
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


def _since(session: Session) -> float:
    """A day before the oldest tile that still has files: what is older needs no thought.

    A year has a hundred thousand tiles.
    """
    oldest = [
        session.scalar(select(func.min(Tile.start)).where(Tile.ms_path != "")),
        session.scalar(
            select(func.min(Tile.start)).where(
                Tile.id.in_(select(SubbandFile.tile_id).where(SubbandFile.tile_id.is_not(None)))
            )
        ),
        session.scalar(select(func.min(TileImage.start))),
    ]
    return min((start for start in oldest if start is not None), default=time.time()) - DAY_S


def _named(session: Session, settings: Settings, needs: _Needs, now: float) -> Iterator[Removal]:
    """Files of tiles that are done with."""
    for tile_id, ms_path, ms_host in session.execute(
        select(Tile.id, Tile.ms_path, Tile.ms_host).where(Tile.start >= _since(session))
    ):
        if ms_path and needs.over(tile_id, settings.keep_ms_h, now):
            yield Removal(Path(ms_path), "raw MS", _OVER, 0, tile_id, ms_host)
        if needs.over(tile_id, settings.keep_subbands_h, now):
            files = session.scalars(select(SubbandFile.path).where(SubbandFile.tile_id == tile_id))
            for path in files:
                yield Removal(Path(path), "sub-band file", _OVER, 0, tile_id)
    planned = _planned(session)
    for row in session.scalars(select(TileImage)):
        folder = Path(str(row.record["prefix"])).parent
        if folder not in planned and needs.over(row.tile_id, settings.keep_images_h, now):
            yield Removal(folder, "image", _OVER, 0, row.tile_id)


def _kept(session: Session) -> Kept:
    working = {
        tile_id
        for tile_ids in session.scalars(
            select(MosaicGroup.tile_ids).where(MosaicGroup.state == GroupState.PROCESSING)
        )
        for tile_id in tile_ids
    }
    working.update(session.scalars(select(Tile.id).where(Tile.state == TileState.CONVERTING)))
    named = {Path(path) for path in session.scalars(select(Tile.ms_path)) if path}
    named |= {Path(path) for path in session.scalars(select(CalibrationSet.path))}
    named |= {Path(str(row["prefix"])).parent for row in session.scalars(select(TileImage.record))}
    named |= _planned(session)
    # A held mosaic waits for its operator where it was made.
    for record in session.scalars(select(Mosaic.record).where(Mosaic.state != "published")):
        named.add(Path(str(record["mosaic"]["path"])).parent)
    return Kept(named, working)


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
                if not (HIDDEN_COPY.match(path.name) if folder in public else _ours(path.name)):
                    continue
                if now - path.stat().st_mtime >= settings.keep_leftovers_h * _HOUR_S:
                    yield Removal(
                        path, "leftover", "no row of the database names it", size_bytes(path)
                    )


def _ours(name: str) -> bool:
    return name.startswith((_GOING, "mosaic_")) or _OURS.match(name) is not None


def _planned(session: Session) -> set[Path]:
    """Image directories that plans name."""
    return {
        Path(str(tile["prefix"])).parent
        for document in session.scalars(select(Plan.document))
        for tile in document["tiles"]
    }


def _forget(registry: Registry, removal: Removal) -> bool:
    """Take the path out of its row; False if a group needs the tile by now."""
    with registry.write() as session:
        unfinished = session.scalars(
            select(MosaicGroup.tile_ids).where(MosaicGroup.state != GroupState.PUBLISHED)
        )
        if any(removal.tile_id in tile_ids for tile_ids in unfinished):
            return False
        if removal.kind == "raw MS":
            tile = session.get_one(Tile, removal.tile_id)
            tile.ms_path = tile.ms_host = ""
        else:
            for row in session.scalars(
                select(TileImage).where(TileImage.tile_id == removal.tile_id)
            ):
                if Path(str(row.record["prefix"])).parent == removal.path:
                    session.delete(row)
        session.add(
            Event(
                at=time.time(),
                level="info",
                subject=removal.tile_id,
                message=f"{removal.kind} {removal.path} removed: {removal.reason}",
            )
        )
    return True


def _delete(path: Path) -> bool:
    """Rename, then delete; False if it is gone already."""
    going = path.with_name(f"{_GOING}{path.name}.{uuid4().hex[:8]}")
    try:
        path.rename(going)
    except FileNotFoundError:
        return False
    if going.is_dir():
        shutil.rmtree(going, ignore_errors=True)
    else:
        going.unlink(missing_ok=True)
    return True
