"""Rows against files, after a database or a disk was restored: adopt, make again, or quarantine.

A product of ours that no row names is adopted if its provenance tells what it is, else put aside. A
row whose file is gone has it made again where its inputs are still there, else is quarantined.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg import layout
from dsa110_contimg.artifacts.provenance import PublishedFiles, read_provenance
from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.calibration.choice import Standing
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.executors.own_disk import this_host
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.groups import tiles_of_groups
from dsa110_contimg.registry.models import (
    CalibrationSet,
    Mosaic,
    MosaicGroup,
    Product,
    Tile,
    TileImage,
)
from dsa110_contimg.registry.mosaics import mosaic_row
from dsa110_contimg.registry.states import CrossmatchState, GroupState, MosaicState, TileState
from dsa110_contimg.registry.subband_files import all_files_of_tile, files_of_tile
from dsa110_contimg.sources import catalogue_file

_ASIDE = "quarantine"


@dataclass(frozen=True)
class Finding:
    """Something that disagrees, and what becomes of it.

    Attributes
    ----------
    subject : str
        File or row.
    problem : str
    action : str
    """

    subject: str
    problem: str
    action: str


def check_files(
    registry: Registry, root: Path, *, checksums: bool = False, dry_run: bool = False
) -> list[Finding]:
    """Compare rows with files and, unless it is a dry run, put right what can be.

    Stop the daemons before: they would meet rows that change under them.

    Parameters
    ----------
    registry : Registry
    root : Path
    checksums : bool
        Read every product and compare its checksum, not only its size.
    dry_run : bool
        Change nothing.
    """
    with registry.write() as session:
        findings = [
            *_tiles(session),
            *_images(session),
            *_calibration_sets(session),
            *_products(session, checksums, dry_run),
            *_unknown_products(session, layout.published_mosaics(root), dry_run),
            *_withdrawn_catalogues(session, layout.published_catalogues(root), dry_run),
        ]
        if dry_run:
            session.rollback()
            return findings
        for finding in findings:
            record_event(
                session, finding.subject[-128:], f"{finding.problem}: {finding.action}", "warning"
            )
    return findings


def _tiles(session: Session) -> Iterator[Finding]:
    yield from _without_ms(
        session,
        [
            tile
            for tile in session.scalars(select(Tile).where(Tile.state == TileState.CONVERTED))
            # Of another machine's own disk nothing can be said from here.
            if tile.ms_path
            and tile.ms_host in ("", this_host())
            and not Path(tile.ms_path).is_dir()
        ],
    )


def give_up(registry: Registry, lost: Iterable[ConvertedTile]) -> int:
    """Let tiles that were on a machine's own disk be converted again; returns their number.

    Those that lie elsewhere by now stay. One whose sub-band files are gone too is quarantined,
    unless its mosaic is published.
    """
    with registry.write() as session:
        rows = [
            row
            for tile in lost
            if (row := session.get(Tile, tile.tile_id)) is not None
            and (row.state, row.ms_host, row.ms_path)
            == (TileState.CONVERTED, tile.host, str(tile.ms_path))
        ]
        for finding in _without_ms(session, rows):
            record_event(
                session, finding.subject, f"{finding.problem}: {finding.action}", "warning"
            )
    return len(rows)


def _without_ms(session: Session, tiles: Iterable[Tile]) -> Iterator[Finding]:
    """Tiles go back to be converted, where that can be."""
    published = tiles_of_groups(session, [GroupState.PUBLISHED])
    for tile in tiles:
        where = f" on {tile.ms_host}" if tile.ms_host else ""
        problem = f"its Measurement Set {tile.ms_path}{where} is gone"
        paths = all_files_of_tile(session, tile.id)
        tile.ms_path = tile.ms_host = ""
        if paths and all(path.is_file() for path in paths):
            _convert_again(tile)
            yield Finding(tile.id, problem, "will be converted again")
        elif tile.id in published:
            yield Finding(tile.id, problem, "its mosaic is published, nothing to do")
        else:
            tile.state = TileState.QUARANTINED
            tile.reason = f"{problem}, and so are its sub-band files"
            yield Finding(tile.id, problem, "quarantined: its sub-band files are gone too")


def _convert_again(tile: Tile) -> None:
    tile.state, tile.converted, tile.converted_at = TileState.READY, None, None
    tile.ms_path = tile.ms_host = ""


def convert_again(registry: Registry, tile_id: str) -> None:
    """Let a converted tile be converted once more: its Measurement Set was found to be damaged.

    Raises
    ------
    UsageError
        If it is not converted, or its sub-band files are gone.
    """
    with registry.write() as session:
        tile = session.get(Tile, tile_id)
        if tile is None or tile.state != TileState.CONVERTED:
            raise UsageError(
                f"{tile_id}: is no converted tile; see 'dsa110-contimg status' for what there is"
            )
        files = files_of_tile(session, tile_id)
        gone = [path for path in files if not path.is_file()]
        if gone or not files:
            raise UsageError(
                f"{tile_id}: cannot be converted again: {len(gone) or 'all'} of its sub-band files "
                "are gone"
            )
        _convert_again(tile)
        record_event(session, tile_id, "to be converted again, by hand", "warning")


def _images(session: Session) -> Iterator[Finding]:
    for row in session.scalars(select(TileImage)):
        if not Path(row.folder).is_dir():
            session.delete(row)
            yield Finding(row.tile_id, f"its image in {row.folder} is gone", "forgotten")


def _calibration_sets(session: Session) -> Iterator[Finding]:
    for row in session.scalars(select(CalibrationSet)):
        if row.standing != Standing.REJECTED and not Path(row.path).is_dir():
            row.standing, row.remark = Standing.REJECTED, f"its tables {row.path} are gone"
            yield Finding(row.id, f"its tables {row.path} are gone", "rejected")


def _products(session: Session, checksums: bool, dry_run: bool) -> Iterator[Finding]:
    everything = session.scalars(select(Product).order_by(Product.path)).all()
    damaged = {product.path: _problem(product, checksums) for product in everything}
    for product in everything:
        problem = damaged[product.path]
        if not problem or product not in session or product in session.deleted:
            continue
        mosaic = session.get(Mosaic, product.name)
        if product.kind in catalogue_file.KINDS and mosaic is not None:
            mosaic.crossmatch = CrossmatchState.OWED
            together = [
                p for p in everything if p.name == product.name and p.kind in catalogue_file.KINDS
            ]
            _withdraw(session, together, dry_run)
            yield Finding(product.path, problem, "its sources will be found again")
            continue
        group = session.get(MosaicGroup, mosaic.group_id) if mosaic is not None else None
        if group is not None and group.state == GroupState.PUBLISHED:
            group.state = GroupState.QUARANTINED
            group.reason = (
                f"{Path(product.path).name} {problem}; release the group to make its mosaic again"
            )
        if mosaic is not None:
            mosaic.state = MosaicState.DAMAGED
        # What was published together is published again together.
        _withdraw(session, [one for one in everything if one.name == product.name], dry_run)
        yield Finding(product.path, problem, "its group is quarantined" if group else "forgotten")


def _problem(product: Product, checksums: bool) -> str:
    path = Path(product.path)
    if not path.is_file():
        return "is gone"
    if path.stat().st_size != product.size:
        return f"has {path.stat().st_size} bytes instead of {product.size}"
    if checksums and sha256(path) != product.sha256:
        return "differs from what was published"
    return ""


def _withdraw(session: Session, products: list[Product], dry_run: bool) -> None:
    for product in products:
        session.delete(product)
        if Path(product.path).is_file() and not dry_run:
            _put_aside(Path(product.path))


def _unknown_products(session: Session, folder: Path, dry_run: bool) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    known = set(session.scalars(select(Product.path)))
    unknown = [p for p in sorted(folder.iterdir()) if p.is_file() and str(p) not in known]
    adopted: set[Path] = set()
    for page in [path for path in unknown if path.suffix == ".json"]:
        trail = _provenance(page)
        files = [path for path in unknown if path.name.startswith(page.stem)]
        if (
            trail is None
            or {path.name: sha256(path) for path in files if path != page} != trail.files
        ):
            continue
        row = session.get(Mosaic, trail.product)
        if row is not None and row.state == MosaicState.HELD:
            continue
        _adopt(session, trail, page, files)
        adopted.update(files)
        yield Finding(str(page.with_suffix(".fits")), "no row names it", "adopted")
    for path in unknown:
        if path in adopted or path.name.startswith("."):
            continue
        if not dry_run:
            _put_aside(path)
        yield Finding(str(path), "no row names it and nothing says what it is", "put aside")


def _withdrawn_catalogues(session: Session, folder: Path, dry_run: bool) -> Iterator[Finding]:
    """Catalogues of mosaics that are held; others without a row are owed and published again."""
    known = set(session.scalars(select(Product.path)))
    for name in session.scalars(select(Mosaic.name).where(Mosaic.state == MosaicState.HELD)):
        for path in sorted(folder.glob(f"{name}_*")):
            if str(path) in known:
                continue
            if not dry_run:
                _put_aside(path)
            yield Finding(str(path), "its mosaic is held", "put aside")


def _provenance(page: Path) -> PublishedFiles | None:
    """The provenance in a file, if it says enough to adopt the product."""
    try:
        trail = read_provenance(page, PublishedFiles)
    except BadInputError:
        return None
    return trail if trail.validation is not None and trail.files else None


def _adopt(session: Session, trail: PublishedFiles, page: Path, files: list[Path]) -> None:
    mosaic, validation = trail.mosaic, trail.validation
    assert validation is not None
    row = mosaic_row(mosaic, validation, trail.group_id)
    # Its catalogue of sources is made again, and published if it is not there.
    row.state, row.crossmatch = MosaicState.PUBLISHED, CrossmatchState.OWED
    session.merge(row)
    moment = page.stat().st_mtime
    for path in files:
        session.merge(
            Product(
                path=str(path),
                kind=trail.kinds.get(path.name, "provenance"),
                name=trail.product,
                sha256=sha256(path),
                size=path.stat().st_size,
                published=moment,
            )
        )
    if not trail.group_id:
        return
    group = session.get(MosaicGroup, trail.group_id)
    if group is None:
        group = MosaicGroup(id=trail.group_id, start=mosaic.start, tile_ids=trail.group_tiles)
        session.add(group)
    group.state, group.reason, group.finished_at = GroupState.PUBLISHED, "", moment


def _put_aside(path: Path) -> None:
    """Out of the way of the public names, but never deleted."""
    aside = path.parent.parent / _ASIDE
    aside.mkdir(exist_ok=True)
    path.rename(aside / f"{int(time.time())}_{path.name}")
