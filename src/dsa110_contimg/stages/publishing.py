"""Stage 8: products under their public names, if validation passed or an operator says so."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import (
    Evidence,
    History,
    MosaicImage,
    PublishedMosaic,
    RegisteredMosaic,
    Validation,
)
from dsa110_contimg.errors import UsageError
from dsa110_contimg.pipeline.calls import call
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.products.publish import publish_file
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.registry import claims, queries, records
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, GroupState, Mosaic, MosaicGroup, Product
from dsa110_contimg.stages import light_curves
from dsa110_contimg.stages.evidence import evidence_of, write_evidence
from dsa110_contimg.stages.state import open_registry


class PublishingStage(Stage):
    """Publishes the registered mosaic with its maps, picture, report and provenance.

    Runs where the database is. Only a verdict of `passed` publishes; anything else is held for
    an operator.
    """

    inputs = ("registered", "mosaic", "validation")
    outputs = ("published",)

    def __init__(self, options: Mapping[str, Any] | None = None):
        self.options = options or {}

    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Publish or hold."""
        mosaic: MosaicImage = context["mosaic"]
        validation: Validation = context["validation"]
        registered: RegisteredMosaic = context["registered"]
        claim = context.get("claim")
        seconds: Mapping[str, float] = context.get("stage_seconds", {})
        passed = validation.verdict is Verdict.PASSED
        target = layout.published_mosaics(context.root)
        report = call(
            write_evidence,
            mosaic=mosaic,
            validation=validation,
            history=History(
                group_id=claim.id if claim is not None else "",
                tile_ids=tuple(
                    tile.tile_id
                    for tile in context.get("measurement_sets", context.get("tile_images", ()))
                ),
                images=tuple(context.get("tile_images", ())),
                calibrated=tuple(context.get("calibrated_tiles", ())),
                calibration_set=context.get("calibration_set"),
                choice=context.get("calibration_choice"),
                options=self.options,
                manual_flags=tuple(context.get("manual_flags", ())),
                seconds=seconds,
            ),
            target=target,
        )
        evidence = context.compute(report, "report")
        registry = open_registry(context)
        rows = _publish_files(registry, evidence, mosaic.name, target) if passed else []
        reason = "" if passed else validation.reasons()
        now = time.time()
        with registry.write() as session:
            _set_state(session, registered.name, rows, published=passed)
            subject = claim.id if claim is not None else mosaic.name
            took = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
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
        return {"published": PublishedMosaic.at(home / mosaic.path.name, passed, reason)}


def _publish_files(
    registry: Registry, evidence: Evidence, name: str, target: Path
) -> list[Product]:
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


def _set_state(session: Session, name: str, rows: list[Product], *, published: bool) -> None:
    row = session.get_one(Mosaic, name)
    row.state = "published" if published else "held"
    row.crossmatch = "owed" if published else "done"
    for product in rows:
        session.merge(product)


def publish_by_hand(registry: Registry, root: Path, name: str, reason: str) -> PublishedMosaic:
    """Publish a mosaic that was held; its cross-match is owed from then on.

    Parameters
    ----------
    registry : Registry
    root : Path
    name : str
    reason : str
        Kept with the decision.

    Raises
    ------
    UsageError
        If there is no such mosaic, or it is published already.
    """
    row = queries.mosaic(registry, name)
    if row["state"] == "published":
        raise UsageError(f"{name}: is published already")
    staged = Path(str(row["record"]["mosaic"]["path"]))
    target = layout.published_mosaics(root)
    rows = _publish_files(registry, evidence_of(staged), name, target)
    with registry.write() as session:
        _set_state(session, name, rows, published=True)
        group = session.get(MosaicGroup, row["group_id"])
        if group is not None and group.state == GroupState.HELD:
            group.state, group.reason = GroupState.PUBLISHED, f"by hand: {reason}"
        session.add(
            Event(
                at=time.time(),
                level="warning",
                subject=row["group_id"] or name,
                message=f"published {target / staged.name} by hand: {reason}",
            )
        )
    return PublishedMosaic.at(target / staged.name)


def hold_by_hand(registry: Registry, root: Path, name: str, reason: str) -> PublishedMosaic:
    """Take a published mosaic back: its files move out of the public directory.

    Its measurements leave the light curves.

    Parameters
    ----------
    registry : Registry
    root : Path
    name : str
    reason : str
        Kept with the decision.

    Raises
    ------
    UsageError
        If there is no such mosaic, or it is not published.
    """
    row = queries.mosaic(registry, name)
    if row["state"] != "published":
        raise UsageError(f"{name}: is {row['state']}, not published")
    withdrawn = layout.images(root) / f"{name}_withdrawn"
    public = [Path(product["path"]) for product in row["products"]]
    for path in public:
        publish_file(path, withdrawn / path.name)
    staged = withdrawn / f"{name}.fits"
    mosaic = records.from_json(MosaicImage, row["record"]["mosaic"])
    record = row["record"] | {"mosaic": row["record"]["mosaic"] | {"path": str(staged)}}
    with registry.write() as session:
        held = session.get_one(Mosaic, name)
        held.state, held.crossmatch, held.record = "held", "done", record
        group = session.get(MosaicGroup, row["group_id"])
        if group is not None and group.state == GroupState.PUBLISHED:
            group.state, group.reason = GroupState.HELD, f"by hand: {reason}"
        session.execute(delete(Product).where(Product.name == name))
        touched = light_curves.withdraw(session, mosaic)
        session.add(
            Event(
                at=time.time(),
                level="warning",
                subject=row["group_id"] or name,
                message=f"held {staged} by hand: {reason}",
            )
        )
    light_curves.judge(registry, touched)
    # A crash here leaves files that no row names: `db check --files` puts them aside.
    for path in public:
        path.unlink(missing_ok=True)
    return PublishedMosaic.at(staged, False, reason)
