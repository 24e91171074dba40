"""Stage 6: gates with numbers on a mosaic."""

from collections.abc import Sequence

import numpy as np

from dsa110_contimg.artifacts.mosaics import MosaicImage, Validation
from dsa110_contimg.executors.calls import call
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.quality import gates
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.mosaics import MosaicRecord, published_before
from dsa110_contimg.stage_options import ValidationOptions
from dsa110_contimg.stages.state import open_registry
from dsa110_contimg.tasks.validation import validate
from dsa110_contimg.telescope import SAME_ICRS_STRIP_DEG

_FEWEST_MOSAICS = 5


class ValidationStage(Stage):
    """Validates a mosaic, also against the noise of earlier ones in the registry."""

    def __init__(self, options: ValidationOptions | None = None, registry: Registry | None = None):
        self.options = options or ValidationOptions()
        self.registry = registry

    def run(self, context: StageContext, mosaic: MosaicImage) -> Validation:
        """Judge the mosaic; a bad verdict is a result, not an error."""
        n_used = len(mosaic.tile_ids)
        with open_registry(self.registry, context.root).read() as session:
            usual = _usual_rms_jy(published_before(session, mosaic.start), mosaic)
        judgement = call(
            validate,
            path=mosaic.path,
            root=context.root,
            options=self.options,
            n_used=n_used,
            n_given=n_used + len(mosaic.left_out),
            usual_rms_jy=usual,
        )
        return context.compute(judgement, "validation")


def _usual_rms_jy(earlier: Sequence[MosaicRecord], mosaic: MosaicImage) -> float | None:
    """Median rms of earlier mosaics of the same strip and method; None of too few."""
    known = [
        gate.value
        for record in earlier
        if record.mosaic.method == mosaic.method
        and record.mosaic.dec_deg is not None
        and mosaic.dec_deg is not None
        and abs(record.mosaic.dec_deg - mosaic.dec_deg) < SAME_ICRS_STRIP_DEG
        for gate in record.validation.gates
        if gate.name == gates.RMS
    ]
    return float(np.median(known)) if len(known) >= _FEWEST_MOSAICS else None
