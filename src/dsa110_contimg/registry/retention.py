"""Find the files that the database still names or needs, and remove the rows of deleted ones."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.groups import UNFINISHED, tiles_of_groups
from dsa110_contimg.registry.models import (
    CalibrationSet,
    Mosaic,
    MosaicGroup,
    Product,
    Step,
    SubbandFile,
    Tile,
    TileAntennasRow,
    TileImage,
)
from dsa110_contimg.registry.plans import planned_folders
from dsa110_contimg.registry.statements import AT_ONCE, batches
from dsa110_contimg.registry.states import GroupState, MosaicState, TileState


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
        return path in self.named or any(
            path.name.lstrip(".").startswith(tile) for tile in self.working
        )


def oldest_with_files(session: Session) -> float:
    """A day before the oldest tile that still has files: what is older needs no thought.

    A year has a hundred thousand tiles.
    """
    with_files = Tile.id.in_(select(SubbandFile.tile_id).where(SubbandFile.tile_id.is_not(None)))
    oldest = [
        session.scalar(select(func.min(Tile.start)).where(Tile.ms_path != "")),
        session.scalar(select(func.min(Tile.start)).where(with_files)),
        session.scalar(select(func.min(TileImage.start))),
    ]
    return min((start for start in oldest if start is not None), default=time.time()) - DAY_S


def published_moments(session: Session, since: float) -> dict[str, float]:
    """When mosaics observed since a moment were published, Unix seconds, by group."""
    rows = session.execute(
        select(Mosaic.group_id, Product.published)
        .join(Product, Product.name == Mosaic.name)
        .where(Mosaic.start >= since)
    )
    return {str(group): float(published) for group, published in rows}


def image_folders(session: Session) -> Iterator[tuple[str, Path]]:
    """Tile and directory of every image."""
    for tile_id, folder in session.execute(select(TileImage.tile_id, TileImage.folder)):
        yield tile_id, Path(folder)


def kept_files(session: Session) -> Kept:
    """Files that rows name, and tiles that are worked on."""
    working = tiles_of_groups(session, [GroupState.PROCESSING])
    working.update(session.scalars(select(Tile.id).where(Tile.state == TileState.CONVERTING)))
    named = {Path(path) for path in session.scalars(select(Tile.ms_path)) if path}
    named |= {Path(path) for path in session.scalars(select(CalibrationSet.path))}
    named |= {folder for _, folder in image_folders(session)}
    named |= planned_folders(session)
    # A held mosaic waits for its operator where it was made.
    unpublished = select(Mosaic.path).where(Mosaic.state != MosaicState.PUBLISHED)
    named |= {Path(path).parent for path in session.scalars(unpublished)}
    return Kept(named, working)


def is_needed(session: Session, tile_id: str) -> bool:
    """True if a group that is not published has a tile."""
    unpublished = [state for state in GroupState if state is not GroupState.PUBLISHED]
    return tile_id in tiles_of_groups(session, unpublished)


def forget_measurement_set(session: Session, tile_id: str) -> None:
    """Take the Measurement Set out of a tile's row."""
    tile = session.get_one(Tile, tile_id)
    tile.ms_path = tile.ms_host = ""


def forget_images(session: Session, tile_id: str, folder: Path) -> None:
    """Delete the rows of a tile's images in a directory."""
    its = TileImage.tile_id == tile_id, TileImage.folder == str(folder)
    session.execute(delete(TileImage).where(*its))


def forget_subband_files(session: Session, paths: Iterable[str]) -> None:
    """Delete rows of sub-band files; a day has four thousand of them."""
    for some in batches(paths, AT_ONCE):
        session.execute(delete(SubbandFile).where(SubbandFile.path.in_(some)))


def forget_steps(session: Session) -> None:
    """Delete what is recorded of the calls of groups that are finished."""
    unfinished = select(MosaicGroup.id).where(MosaicGroup.state.in_(UNFINISHED))
    session.execute(delete(Step).where(Step.group_id.not_in(unfinished)))


def forget_antennas(session: Session, keep_s: float) -> None:
    """Delete what is recorded of antennas so long before the newest tile."""
    newest = session.scalar(select(func.max(TileAntennasRow.start)))
    if newest is not None:
        oldest = newest - keep_s
        session.execute(delete(TileAntennasRow).where(TileAntennasRow.start < oldest))
