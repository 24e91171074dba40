"""Images of tiles."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg import records
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.registry.models import CalibrationSet, TileImage
from dsa110_contimg.registry.statements import in_selection


def add_image(session: Session, image: ImagedTile, options_key: str) -> None:
    """Record a tile image under its key; one made again replaces the row."""
    session.query(TileImage).filter_by(
        tile_id=image.tile_id, calibration_set_id=image.calibration_set_id, options_key=options_key
    ).delete()
    session.add(
        TileImage(
            tile_id=image.tile_id,
            calibration_set_id=image.calibration_set_id,
            options_key=options_key,
            start=image.start,
            beam_corrected=image.beam_corrected,
            folder=str(image.prefix.parent),
            record=records.to_json(image),
        )
    )


def tile_images(
    session: Session, tile_ids: Iterable[str], calibration_set_ids: Iterable[str]
) -> list[ImagedTile]:
    """Images of some tiles under some calibration sets, the newest row last."""
    rows = session.scalars(
        select(TileImage.record)
        .where(
            TileImage.tile_id.in_(list(tile_ids)),
            TileImage.calibration_set_id.in_(list(calibration_set_ids)),
        )
        .order_by(TileImage.id)
    )
    return [records.from_json(ImagedTile, record) for record in rows]


@dataclass(frozen=True)
class RegisteredImage:
    """A tile image with what its row adds.

    Attributes
    ----------
    image : ImagedTile
    options_key : str
    calibration_observed : float or None
        When its calibration set was observed, Unix seconds; None if that is not in the database.
    """

    image: ImagedTile
    options_key: str
    calibration_observed: float | None


def registered_images(
    session: Session,
    *,
    since: float | None = None,
    until: float | None = None,
    tile_ids: Iterable[str] | None = None,
    calibration_set: str | None = None,
    beam_corrected_only: bool = True,
) -> Iterator[RegisteredImage]:
    """Images of tiles that meet every condition; times of observation in Unix seconds."""
    query = select(TileImage, CalibrationSet.observed).outerjoin(
        CalibrationSet, CalibrationSet.id == TileImage.calibration_set_id
    )
    query = query.where(*in_selection(TileImage.start, TileImage.tile_id, since, until, tile_ids))
    if calibration_set is not None:
        query = query.where(TileImage.calibration_set_id == calibration_set)
    if beam_corrected_only:
        query = query.where(TileImage.beam_corrected)
    for row, observed in session.execute(query):
        image = records.from_json(ImagedTile, row.record)
        yield RegisteredImage(image, row.options_key, observed)


def newest_image(session: Session, tile_id: str) -> ImagedTile | None:
    """The newest image of a tile."""
    wanted = select(TileImage.record).where(TileImage.tile_id == tile_id)
    record = session.scalars(wanted.order_by(TileImage.id.desc()).limit(1)).first()
    return None if record is None else records.from_json(ImagedTile, record)
