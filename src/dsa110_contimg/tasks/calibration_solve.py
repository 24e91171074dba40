"""Solve one tile against the sky and write its calibration set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.calibration import (
    BANDPASS_NAME,
    CROSSTALK_NAME,
    GAINS_NAME,
    SolvedSet,
)
from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.calibration import crosstalk, stored_beams, tables
from dsa110_contimg.calibration.reference import solve_reference
from dsa110_contimg.durable import check_new, whole
from dsa110_contimg.executors.needs import needs
from dsa110_contimg.sources.unmodelled import find_unmodelled
from dsa110_contimg.stage_options import CalibrationSolveOptions
from dsa110_contimg.tasks.calibration_sets import set_id, write_record
from dsa110_contimg.tasks.sky_models import sky_model
from dsa110_contimg.visibilities import measurement_set
from dsa110_contimg.visibilities.manual_flags import ManualFlag, apply_manual


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
        write_record(part, solved)
    return solved
