"""Stage 7: put what was made into the database."""

import time
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg.artifacts.calibration import COMBINED, KnownSet, SolvedSet
from dsa110_contimg.artifacts.mosaics import MosaicImage, RegisteredMosaic, Validation
from dsa110_contimg.artifacts.tiles import (
    NO_CALIBRATED,
    NO_IMAGES,
    CalibratedTiles,
    ConvertedTile,
    ImagedTile,
    ImagedTiles,
)
from dsa110_contimg.calibration.antenna_history import TileAntennas
from dsa110_contimg.calibration.choice import Choice, Standing
from dsa110_contimg.durable import sync_trees
from dsa110_contimg.errors import PermanentError, UsageError
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.products.survey import ALL_SKY
from dsa110_contimg.registry import claims, records
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    CalibrationChoice,
    CalibrationSet,
    Mosaic,
    Tile,
    TileImage,
)
from dsa110_contimg.stages.antenna_record import add_antennas
from dsa110_contimg.stages.state import open_registry


def add_calibration_set(session: Session, solved: SolvedSet) -> None:
    """Record a calibration set, replacing an earlier solution of the same tile and options."""
    session.merge(
        CalibrationSet(
            id=solved.id,
            tile_id=solved.tile_id,
            path=str(solved.path),
            observed=solved.observed,
            apparent_dec_deg=solved.apparent_dec_deg,
            bandpass_valid_s=solved.bandpass_valid_s,
            gains_valid_s=solved.gains_valid_s,
            quality=records.to_json(solved),
        )
    )


def converted_tile(row: Tile) -> ConvertedTile:
    """A converted tile, where its row says that it lies now."""
    told = records.from_json(ConvertedTile, row.converted or {})
    return replace(told, ms_path=Path(row.ms_path), host=row.ms_host)


def known_sets(session: Session, start: float) -> tuple[KnownSet, ...]:
    """Calibration sets that may serve an observation: all that are not long out of date.

    A combination of two is no candidate: its bandpass is older than its gains, and would grow
    older with each choice.

    Parameters
    ----------
    session : Session
    start : float
        Of the observation, Unix seconds.
    """
    age = start - CalibrationSet.observed
    # Those that are somewhat too old or too new are told of in the record of the choice.
    within = (
        (func.abs(age) <= 2 * valid_s)
        for valid_s in (CalibrationSet.bandpass_valid_s, CalibrationSet.gains_valid_s)
    )
    may_serve = or_(*within, CalibrationSet.standing == Standing.PREFERRED)
    return tuple(
        KnownSet(records.from_json(SolvedSet, row.quality), Standing(row.standing), row.remark)
        for row in session.scalars(
            select(CalibrationSet).where(may_serve).order_by(CalibrationSet.id)
        )
        if COMBINED not in row.id
    )


def add_choice(session: Session, subject: str, choice: Choice) -> None:
    """Keep the record of a choice of calibration sets."""
    session.add(
        CalibrationChoice(
            at=time.time(),
            subject=subject,
            bandpass_id=choice.bandpass_id,
            gains_id=choice.gains_id,
            reasons=choice.reasons,
        )
    )


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
            record=records.to_json(image),
        )
    )


class RegistrationStage(Stage):
    """Registers a mosaic with its validation, and the tile images it was made of.

    With a claim nothing is registered once the claim has passed on.
    """

    def __init__(
        self, options_key: str = "", registry: Registry | None = None, claim: Claim | None = None
    ):
        self.options_key = options_key
        self.registry = registry
        self.claim = claim

    def run(
        self,
        context: StageContext,
        mosaic: MosaicImage,
        validation: Validation,
        imaged: ImagedTiles = NO_IMAGES,
        calibrated: CalibratedTiles = NO_CALIBRATED,
        calibration_set: SolvedSet | None = None,
        choice: Choice | None = None,
    ) -> RegisteredMosaic:
        """Register in one transaction."""
        if mosaic.name == ALL_SKY:
            raise UsageError(f"{ALL_SKY}: is the name of the sky survey; give another --name")
        claim = self.claim
        tables = [calibration_set.path] if calibration_set is not None else []
        sync_trees([*tables, *(image.prefix.parent for image in imaged.tiles)])
        with open_registry(self.registry, context.root).write() as session:
            if claim is not None:
                claims.change(session, claim, reason="")
            known = session.get(Mosaic, mosaic.name)
            group_id = claim.id if claim is not None else ""
            if known is not None and (known.state == "published" or known.group_id != group_id):
                raise PermanentError(
                    f"{mosaic.name}: is a mosaic of this name already ({known.state}); give the "
                    "new one another name"
                )
            if calibration_set is not None:
                add_calibration_set(session, calibration_set)
            if choice is not None:
                add_choice(session, mosaic.name, choice)
            for image in imaged.tiles:
                add_image(session, image, self.options_key)
            for made in calibrated.tiles:
                if made.antennas:
                    add_antennas(
                        session,
                        TileAntennas(
                            made.tile.tile_id,
                            made.tile.start,
                            made.tile.duration_s,
                            made.calibration_set_id,
                            made.antennas,
                        ),
                    )
            session.merge(
                Mosaic(
                    name=mosaic.name,
                    group_id=group_id,
                    start=mosaic.start,
                    method=mosaic.method,
                    state="staged",
                    verdict=validation.verdict,
                    record={
                        "mosaic": records.to_json(mosaic),
                        # Each source's comparison is in the provenance.
                        "validation": records.to_json(replace(validation, sources=())),
                    },
                )
            )
        return RegisteredMosaic(mosaic.name, group_id, mosaic.path)
