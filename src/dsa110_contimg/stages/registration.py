"""Stage 7: put what was made into the database."""

from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import MosaicImage, RegisteredMosaic, Validation
from dsa110_contimg.artifacts.tiles import NO_CALIBRATED, NO_IMAGES, CalibratedTiles, ImagedTiles
from dsa110_contimg.calibration.antenna_history import TileAntennas
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.durable import sync_trees
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.antennas import add_antennas
from dsa110_contimg.registry.calibration_sets import add_calibration_set, add_choice
from dsa110_contimg.registry.claims import Claim
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.mosaics import stage_mosaic
from dsa110_contimg.registry.tile_images import add_image
from dsa110_contimg.stages.state import open_registry


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
        claim = self.claim
        tables = [calibration_set.path] if calibration_set is not None else []
        sync_trees([*tables, *(image.prefix.parent for image in imaged.tiles)])
        with open_registry(self.registry, context.root).write() as session:
            if claim is not None:
                claims.change(session, claim, reason="")
            group_id = claim.id if claim is not None else ""
            stage_mosaic(session, mosaic, validation, group_id)
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
        return RegisteredMosaic(mosaic.name, group_id, mosaic.path)
