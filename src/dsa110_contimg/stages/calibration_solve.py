"""Stage 2: bandpass and gains of the reference tile, against the sky.

If that tile cannot be solved, its neighbours are tried, then sets observed earlier;
`calibration.choice` says which set serves. Nothing is imaged without an acceptable one.
"""

from collections.abc import Mapping, Sequence

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import NO_SETS, KnownSet, KnownSets, SolvedSet
from dsa110_contimg.artifacts.tiles import NO_FLAGS, ConvertedTile, ConvertedTiles, ManualFlags
from dsa110_contimg.calibration.choice import Choice, Standing, choose
from dsa110_contimg.errors import CalibrationError, ContimgError, NotYetError
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import FreshPath, fresh_path
from dsa110_contimg.pipeline.context import StageContext, reason
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.stage_options import CalibrationSolveOptions
from dsa110_contimg.tasks.calibration_sets import combine, set_id
from dsa110_contimg.tasks.calibration_solve import solve

_TRIED_TILES = 3


def reference_order(n_tiles: int, reference_tile: int) -> list[int]:
    """Tiles to solve, from 0, the reference first and then its neighbours, until one succeeds."""
    reference = reference_tile - 1 if n_tiles >= reference_tile else n_tiles // 2
    return sorted(range(n_tiles), key=lambda i: (abs(i - reference), i))[:_TRIED_TILES]


class CalibrationSolveStage(Stage):
    """Solves the reference tile, or falls back on sets that are known."""

    def __init__(self, options: CalibrationSolveOptions | None = None):
        self.options = options or CalibrationSolveOptions()

    def run(
        self,
        context: StageContext,
        converted: ConvertedTiles,
        known: KnownSets = NO_SETS,
        by_hand: ManualFlags = NO_FLAGS,
    ) -> tuple[SolvedSet, Choice]:
        """Solve and choose."""
        tiles = converted.tiles
        sets = {one.solved.id: one for one in known.sets}
        own, failures = self._solve_own(context, tiles, sets, by_hand)
        if own is None and not known.complete:
            raise NotYetError(f"{'; '.join(failures)}; earlier observations are not finished yet")
        first, last = tiles[0], tiles[-1]
        try:
            choice = choose(
                [one.candidate for one in sets.values()],
                (first.start + last.start + last.duration_s) / 2,
                first.apparent_dec_deg,
                KnownSet(own).candidate if own is not None else None,
            )
        except CalibrationError as error:
            raise CalibrationError("; ".join([*failures, str(error)])) from error
        if own is not None:
            sets[own.id] = KnownSet(own)
        return self._set_of(context, choice, sets, first.tile_id), choice

    def _solve_own(
        self,
        context: StageContext,
        tiles: Sequence[ConvertedTile],
        known: Mapping[str, KnownSet],
        by_hand: ManualFlags,
    ) -> tuple[SolvedSet | None, list[str]]:
        """The first tile that can be solved, and why others could not."""
        failures: list[str] = []
        errors: list[Exception] = []
        for index in reference_order(len(tiles), self.options.reference_tile):
            tile = tiles[index]
            before = known.get(set_id(tile, self.options))
            if before is not None and before.standing is Standing.REJECTED:
                continue
            solution = call(
                solve,
                tile=tile,
                output=fresh_path(layout.calibration_sets(context.root), tile.tile_id),
                root=context.root,
                options=self.options,
                manual_flags=by_hand.flags,
            )
            (made,) = context.map_sparing([solution], "solution")
            if not isinstance(made, Exception):
                return made, failures
            errors.append(made)
            failures.append(f"tile {tile.tile_id}: {reason(made)}")
        if errors and not any(isinstance(error, ContimgError) for error in errors):
            # What fails on every tile in a way nobody foresaw is no matter of the tiles.
            raise errors[0]
        return None, failures

    def _set_of(
        self, context: StageContext, choice: Choice, sets: Mapping[str, KnownSet], tile_id: str
    ) -> SolvedSet:
        bandpass, gains = sets[choice.bandpass_id].solved, sets[choice.gains_id].solved
        if bandpass.id == gains.id:
            return bandpass
        return combine(
            bandpass, gains, FreshPath(layout.calibration_sets(context.root), tile_id).make()
        )
