"""Stage 8: products under their public names, if validation passed or an operator says so."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import (
    Evidence,
    History,
    MosaicImage,
    PublishedMosaic,
    RegisteredMosaic,
    Validation,
)
from dsa110_contimg.artifacts.tiles import (
    NO_CALIBRATED,
    NO_FLAGS,
    NO_IMAGES,
    CalibratedTiles,
    ConvertedTiles,
    ImagedTiles,
    ManualFlags,
)
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.pipeline.calls import call
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.products.publish import publish_file
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, GroupState, Mosaic, Product
from dsa110_contimg.reports.evidence import write_evidence
from dsa110_contimg.stages.state import open_registry


class PublishingStage(Stage):
    """Publishes the registered mosaic with its maps, picture, report and provenance.

    Runs where the database is. Only a verdict of `passed` publishes; anything else is held for
    an operator.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        registry: Registry | None = None,
        claim: Claim | None = None,
    ):
        self.options = options or {}
        self.registry = registry
        self.claim = claim

    def run(
        self,
        context: StageContext,
        registered: RegisteredMosaic,
        mosaic: MosaicImage,
        validation: Validation,
        converted: ConvertedTiles | None = None,
        imaged: ImagedTiles = NO_IMAGES,
        calibrated: CalibratedTiles = NO_CALIBRATED,
        calibration_set: SolvedSet | None = None,
        choice: Choice | None = None,
        by_hand: ManualFlags = NO_FLAGS,
    ) -> PublishedMosaic:
        """Publish or hold."""
        claim = self.claim
        passed = validation.verdict is Verdict.PASSED
        target = layout.published_mosaics(context.root)
        report = call(
            write_evidence,
            mosaic=mosaic,
            validation=validation,
            history=History(
                group_id=claim.id if claim is not None else "",
                converted=converted,
                imaged=imaged,
                calibrated=calibrated,
                calibration_set=calibration_set,
                choice=choice,
                options=self.options,
                by_hand=by_hand,
                seconds=context.seconds,
            ),
            target=target,
        )
        evidence = context.compute(report, "report")
        registry = open_registry(self.registry, context.root)
        rows = publish_files(registry, evidence, mosaic.name, target) if passed else []
        reason = "" if passed else validation.reasons()
        now = time.time()
        with registry.write() as session:
            set_state(session, registered.name, rows, published=passed)
            subject = claim.id if claim is not None else mosaic.name
            took = ", ".join(f"{name} {value:.1f} s" for name, value in context.seconds.items())
            if took:
                session.add(Event(at=now, level="info", subject=subject, message=f"took {took}"))
            session.add(
                Event(
                    at=now,
                    level="info" if passed else "warning",
                    subject=subject,
                    message=f"published {target / mosaic.path.name}"
                    if passed
                    else f"held {mosaic.path}: {reason}",
                )
            )
            if claim is not None:
                claims.change(
                    session,
                    claim,
                    state=GroupState.PUBLISHED if passed else GroupState.HELD,
                    reason=reason,
                    owner="",
                    lease_until=0.0,
                    finished_at=now,
                )
        home = target if passed else mosaic.path.parent
        return PublishedMosaic.at(home / mosaic.path.name, passed, reason)


def publish_files(registry: Registry, evidence: Evidence, name: str, target: Path) -> list[Product]:
    """Put the files of a mosaic into the public directory; rows that say so."""
    with registry.read() as session:
        known = set(session.scalars(select(Product.path).where(Product.name == name)))
    rows = []
    for kind, path in evidence.files:
        public = target / path.name
        checksum = publish_file(path, public, orphaned=str(public) not in known)
        rows.append(
            Product(
                path=str(public),
                kind=kind,
                name=name,
                sha256=checksum,
                size=public.stat().st_size,
                published=time.time(),
            )
        )
    return rows


def set_state(session: Session, name: str, rows: list[Product], *, published: bool) -> None:
    """Record that a mosaic is published, whose cross-match is owed then, or held."""
    row = session.get_one(Mosaic, name)
    row.state = "published" if published else "held"
    row.crossmatch = "owed" if published else "done"
    for product in rows:
        session.merge(product)
