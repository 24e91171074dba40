"""Stage 8: products under their public names, if validation passed or an operator says so."""

import time
from collections.abc import Mapping
from typing import Any

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import (
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
from dsa110_contimg.executors.calls import call
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.mosaics import set_state
from dsa110_contimg.registry.products import publish_files
from dsa110_contimg.registry.states import GroupState
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
        rows = publish_files(registry, evidence.files, mosaic.name, target) if passed else []
        reason = "" if passed else validation.reasons()
        now = time.time()
        with registry.write() as session:
            set_state(session, registered.name, rows, published=passed)
            subject = claim.id if claim is not None else mosaic.name
            took = ", ".join(f"{name} {value:.1f} s" for name, value in context.seconds.items())
            if took:
                record_event(session, subject, f"took {took}")
            if passed:
                record_event(session, subject, f"published {target / mosaic.path.name}")
            else:
                record_event(session, subject, f"held {mosaic.path}: {reason}", "warning")
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
