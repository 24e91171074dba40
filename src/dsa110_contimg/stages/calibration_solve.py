"""Stage 2: bandpass and gains of the reference tile, against the sky.

If that tile cannot be solved, its neighbours are tried, then sets observed earlier;
`calibration.choice` says which set serves. Nothing is imaged without an acceptable one.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import (
    BANDPASS_NAME,
    COMBINED,
    CROSSTALK_NAME,
    GAINS_NAME,
    NO_SETS,
    RECORD_NAME,
    KnownSet,
    KnownSets,
    SolvedSet,
)
from dsa110_contimg.artifacts.tiles import NO_FLAGS, ConvertedTile, ConvertedTiles, ManualFlags
from dsa110_contimg.calibration import crosstalk, tables
from dsa110_contimg.calibration.choice import Choice, Standing, choose
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.durable import check_new, whole
from dsa110_contimg.errors import BadInputError, CalibrationError, NotYetError
from dsa110_contimg.pipeline.calls import call
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.fresh import FreshPath, fresh_path
from dsa110_contimg.pipeline.needs import needs
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.registry import records
from dsa110_contimg.sources.unmodelled import find_unmodelled
from dsa110_contimg.stage_options import CalibrationSolveOptions
from dsa110_contimg.stages import stored_beams
from dsa110_contimg.stages.calibration_inputs import sky_model
from dsa110_contimg.visibilities import measurement_set
from dsa110_contimg.visibilities.manual_flags import ManualFlag, apply_manual

_TRIED_TILES = 3


@needs(memory_gb=4.0)
def solve(
    tile: ConvertedTile,
    output: Path,
    root: Path,
    options: CalibrationSolveOptions,
    manual_flags: Sequence[ManualFlag] = (),
) -> SolvedSet:
    """Solve a tile and write its calibration set.

    Parameters
    ----------
    tile : ConvertedTile
    output : Path
        Directory to make.
    root : Path
        Where catalogues lie.
    options : CalibrationSolveOptions
    manual_flags : sequence of ManualFlag

    Raises
    ------
    CalibrationError, UsageError
    """
    check_new([output])
    vis = measurement_set.read(tile.ms_path)
    apply_manual(vis, manual_flags)
    observed = tile.start + tile.duration_s / 2
    known = stored_beams.serving(root, observed, tile.apparent_dec_deg)
    if known is not None:
        vis = replace(vis, beam=known.beam.shape)
    model = sky_model(vis, root, options)
    solution = solve_reference(
        vis,
        model,
        options,
        overwrite=True,
        find_unmodelled=find_unmodelled,
        known_beam=known.beam if known is not None else None,
    )
    middle_s = float(vis.times_s.mean())
    solved = SolvedSet(
        id=set_id(tile, options),
        path=output,
        tile_id=tile.tile_id,
        observed=observed,
        apparent_dec_deg=tile.apparent_dec_deg,
        reference_antenna=solution.reference_antenna,
        flagged_fraction=solution.flagged_fraction,
        median_snr=solution.median_snr,
        model_flux_jy=solution.model_flux_jy,
        rfi_fraction=solution.rfi_fraction,
        n_model_sources=len(model),
        n_unmodelled=solution.n_unmodelled,
        unmodelled_jy=solution.unmodelled_jy,
        sky_catalog=options.sky_catalog,
        bandpass_valid_s=options.bandpass_valid_h * 3600,
        gains_valid_s=options.gains_valid_h * 3600,
        channels_per_solution=solution.channels_per_solution,
        flux_scale=solution.flux_scale,
        beam=solution.beam,
        known_beam=known.name if known is not None else "",
        n_crosstalk=len(solution.crosstalk.pairs),
        crosstalk_rms_jy=solution.crosstalk.rms_jy,
        crosstalk_sky_loss=solution.crosstalk.sky_loss(vis.antennas_present().size),
        misplaced=solution.misplaced,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole(output) as part:
        part.mkdir()
        for name, kind, gains in (
            (BANDPASS_NAME, "B Jones", solution.bandpass),
            (GAINS_NAME, "G Jones", solution.gains),
        ):
            table = tables.CalibrationTable(
                kind,
                gains,
                np.array([middle_s]),
                tile.duration_s,
                vis.array.names,
                vis.frequencies_hz,
                solution.reference_antenna,
            )
            tables.write(part / name, table, tile.ms_path)
        if solution.crosstalk.pairs:
            crosstalk.write(part / CROSSTALK_NAME, solution.crosstalk)
        _write_record(part, solved)
    return solved


def _write_record(directory: Path, solved: SolvedSet) -> None:
    """What a set is; where it lies is said by where it is found."""
    record = records.to_json(replace(solved, path=Path()))
    (directory / RECORD_NAME).write_text(json.dumps(record, indent=1))


def load_set(path: Path) -> SolvedSet:
    """A calibration set from its directory."""
    record = path / RECORD_NAME
    if not record.exists():
        raise BadInputError(f"{path}: is not a calibration set (no {RECORD_NAME} in it)")
    return replace(records.from_json(SolvedSet, json.loads(record.read_text())), path=path)


def set_id(tile: ConvertedTile, options: CalibrationSolveOptions) -> str:
    """Name of the set of a tile and options."""
    return f"{tile.tile_id}_{options.key()}"


def combine(bandpass: SolvedSet, gains: SolvedSet, output: Path) -> SolvedSet:
    """One set of the bandpass of one and the gains of another."""
    combined = replace(
        gains,
        id=f"{bandpass.id}{COMBINED}{gains.id}",
        path=output,
        flagged_fraction=bandpass.flagged_fraction,
        median_snr=bandpass.median_snr,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole(output) as part:
        shutil.copytree(bandpass.path / BANDPASS_NAME, part / BANDPASS_NAME)
        shutil.copytree(gains.path / GAINS_NAME, part / GAINS_NAME)
        if (gains.path / CROSSTALK_NAME).exists():
            shutil.copy(gains.path / CROSSTALK_NAME, part / CROSSTALK_NAME)
        _write_record(part, combined)
    return combined


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
            try:
                return context.compute(solution, "solution"), failures
            except CalibrationError as error:
                failures.append(f"tile {tile.tile_id}: {error}")
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
