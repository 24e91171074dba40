"""Mosaics: staged, published, held or damaged."""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from sqlalchemy import Text, cast, delete, select
from sqlalchemy.orm import Session, defer

from dsa110_contimg import records
from dsa110_contimg.artifacts.mosaics import MosaicImage, Validation
from dsa110_contimg.errors import PermanentError
from dsa110_contimg.layout import ALL_SKY
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import events_about
from dsa110_contimg.registry.models import Mosaic, Product
from dsa110_contimg.registry.products import add_products
from dsa110_contimg.registry.read_models import LoggedEvent, Neighbours, ReadModel
from dsa110_contimg.registry.statements import RECENT, existing, in_time, neighbours
from dsa110_contimg.registry.states import CrossmatchState, MosaicState

BY_HAND = "by hand"
"""In the messages of events that tell what a person decided."""


class MadeBy(StrEnum):
    """How a mosaic came to be."""

    STREAMING = "streaming"
    BATCH = "batch"


class MosaicSummary(ReadModel):
    """A mosaic: number of tiles, method, state and verdict of validation, and who made it."""

    name: str
    start: float
    tiles: int
    method: str
    state: MosaicState
    verdict: Verdict
    made_by: MadeBy


class MosaicRecord(ReadModel):
    """A mosaic as it was made, and how it was judged."""

    mosaic: MosaicImage
    validation: Validation


class ProductFile(ReadModel):
    """A public file; size in bytes."""

    kind: str
    path: Path
    sha256: str
    size: int


class MosaicDetail(ReadModel):
    """A mosaic with its gates and its public files.

    `decision` is what a person decided about it last.
    """

    name: str
    group_id: str
    state: MosaicState
    verdict: Verdict
    decision: LoggedEvent | None
    record: MosaicRecord
    products: list[ProductFile]


def list_mosaics(
    registry: Registry,
    limit: int = 1000,
    since: float | None = None,
    until: float | None = None,
    state: str | None = None,
) -> list[MosaicSummary]:
    """The newest mosaics, by observation time, both ends included."""
    # Records are long, and lists show nothing of them.
    rows = select(Mosaic).options(defer(Mosaic.record))
    query = in_time(rows, Mosaic.start, since, until).limit(limit)
    if state is not None:
        query = query.where(Mosaic.state == state)
    with registry.read() as session:
        return [
            MosaicSummary(
                name=row.name,
                start=row.start,
                tiles=row.n_tiles,
                method=row.method,
                state=row.state,
                verdict=Verdict(row.verdict),
                made_by=MadeBy.STREAMING if row.group_id else MadeBy.BATCH,
            )
            for row in session.scalars(query)
        ]


def get_mosaic(registry: Registry, name: str) -> MosaicDetail:
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
        return MosaicDetail(
            name=name,
            group_id=row.group_id,
            state=row.state,
            verdict=Verdict(row.verdict),
            decision=_decision(session, row),
            record=_record(row),
            products=[ProductFile.model_validate(product) for product in products],
        )


def _decision(session: Session, row: Mosaic) -> LoggedEvent | None:
    about = events_about(session, (row.group_id or row.name,))
    return next((one for one in about if BY_HAND in one.message), None)


def mosaics_of_set(registry: Registry, set_id: str) -> list[str]:
    """Names of the mosaics whose tiles were calibrated with a set, in order of time."""
    with registry.read() as session:
        rows = session.scalars(
            select(Mosaic)
            .where(cast(Mosaic.record, Text).contains(set_id, autoescape=True))
            .order_by(Mosaic.start)
        )
        return [row.name for row in rows if set_id in _image(row).calibration_set_ids]


def _record(row: Mosaic) -> MosaicRecord:
    validation = records.from_json(Validation, row.record["validation"])
    return MosaicRecord(mosaic=_image(row), validation=validation)


def mosaic_neighbours(registry: Registry, name: str) -> Neighbours:
    """Names of the mosaics observed before and after one."""
    with registry.read() as session:
        row = session.get(Mosaic, name)
        if row is None:
            return Neighbours(before=None, after=None)
        return neighbours(session, Mosaic, row.start)


def report_path(registry: Registry, name: str) -> Path | None:
    """The page of a published mosaic; None if it is no such thing."""
    with registry.read() as session:
        page = select(Product.path).where(Product.name == name, Product.kind == "report")
        found = session.scalar(page)
    return None if found is None else Path(found)


def published_before(session: Session, start: float) -> list[MosaicRecord]:
    """The newest published mosaics that were observed before a moment."""
    rows = session.scalars(
        select(Mosaic)
        .where(Mosaic.state == MosaicState.PUBLISHED, Mosaic.start < start)
        .order_by(Mosaic.start.desc())
        .limit(RECENT)
    )
    return [_record(row) for row in rows]


def check_name(session: Session, name: str, group_id: str = "") -> None:
    """Refuse the name of a mosaic that another one has; the same group may make its own again.

    Raises
    ------
    PermanentError
    """
    if name == ALL_SKY:
        raise PermanentError(f"{ALL_SKY}: is the name of the sky survey; give another --name")
    known = session.get(Mosaic, name)
    if known is not None and (known.state == MosaicState.PUBLISHED or known.group_id != group_id):
        raise PermanentError(
            f"{name}: is a mosaic of this name already ({known.state}); give the "
            "new one another name"
        )


def stage_mosaic(
    session: Session, mosaic: MosaicImage, validation: Validation, group_id: str = ""
) -> None:
    """Record a mosaic that is made and not yet published; the same group may do it again.

    Raises
    ------
    PermanentError
        If the name is taken by another mosaic.
    """
    check_name(session, mosaic.name, group_id)
    row = mosaic_row(mosaic, validation, group_id)
    row.state = MosaicState.STAGED
    session.merge(row)


def mosaic_row(mosaic: MosaicImage, validation: Validation, group_id: str) -> Mosaic:
    """Make the row of a mosaic, without its state."""
    return Mosaic(
        name=mosaic.name,
        group_id=group_id,
        start=mosaic.start,
        method=mosaic.method,
        verdict=validation.verdict,
        path=str(mosaic.path),
        n_tiles=len(mosaic.tile_ids),
        median_rms_jy=mosaic.median_rms_jy if np.isfinite(mosaic.median_rms_jy) else None,
        record={
            "mosaic": records.to_json(mosaic),
            # Each source's comparison is in the provenance.
            "validation": records.to_json(replace(validation, sources=())),
        },
    )


def set_crossmatch(session: Session, name: str, state: CrossmatchState) -> None:
    """Record what became of the cross-match of a mosaic, if the mosaic is there still.

    A failure of a mosaic that was held meanwhile, and has nothing owed any more, is not recorded.
    """
    row = session.get(Mosaic, name)
    if row is not None and (state, row.crossmatch) != (
        CrossmatchState.FAILED,
        CrossmatchState.DONE,
    ):
        row.crossmatch = state


def owed_crossmatches(session: Session) -> list[tuple[str, str]]:
    """Name and group of the published mosaics that are still to be cross-matched."""
    owed = Mosaic.crossmatch == CrossmatchState.OWED, Mosaic.state == MosaicState.PUBLISHED
    rows = session.execute(select(Mosaic.name, Mosaic.group_id).where(*owed))
    return [(name, group_id) for name, group_id in rows]


def set_state(session: Session, name: str, rows: list[Product], *, published: bool) -> None:
    """Record that a mosaic is published, whose cross-match is owed then, or held."""
    row = session.get_one(Mosaic, name)
    row.state = MosaicState.PUBLISHED if published else MosaicState.HELD
    row.crossmatch = CrossmatchState.OWED if published else CrossmatchState.DONE
    add_products(session, rows)


def registered_mosaic(session: Session, name: str) -> MosaicImage | None:
    """A mosaic as it was made; None if there is none of that name."""
    row = session.get(Mosaic, name)
    return None if row is None else _image(row)


def is_published(session: Session, name: str) -> bool:
    """True if a mosaic is published now."""
    row = session.get(Mosaic, name)
    return row is not None and row.state == MosaicState.PUBLISHED


def registered_mosaics(session: Session, names: Iterable[str]) -> list[MosaicImage]:
    """Mosaics of some names as they were made, in order of time."""
    rows = select(Mosaic).where(Mosaic.name.in_(list(names))).order_by(Mosaic.start)
    return [_image(row) for row in session.scalars(rows)]


def published_between(session: Session, first: float, last: float) -> list[MosaicImage]:
    """Published mosaics whose observation began in a span of time."""
    inside = Mosaic.start.between(first, last)
    rows = select(Mosaic).where(Mosaic.state == MosaicState.PUBLISHED, inside)
    return [_image(row) for row in session.scalars(rows.order_by(Mosaic.start))]


def _image(row: Mosaic) -> MosaicImage:
    """The mosaic of a row: its file may have been moved since its record was made."""
    return replace(records.from_json(MosaicImage, row.record["mosaic"]), path=Path(row.path))


def hold_mosaic(session: Session, name: str, path: Path, products: Iterable[Path]) -> None:
    """Record that a published mosaic is held, its file at another path, and forget products."""
    row = session.get_one(Mosaic, name)
    row.state, row.crossmatch = MosaicState.HELD, CrossmatchState.DONE
    row.path = str(path)
    gone = [str(product) for product in products]
    session.execute(delete(Product).where(Product.path.in_(gone)))
