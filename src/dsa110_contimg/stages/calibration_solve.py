"""Stage 2: bandpass and gains of the reference tile, against the sky."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from dsa110_contimg.calibration import tables
from dsa110_contimg.calibration import tile as tile_calibration
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.registry import records
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sky.model import SkyModel, in_beam
from dsa110_contimg.stages.conversion import ConvertedTile
from dsa110_contimg.stages.options import CalibrationSolveOptions, SkyModelOptions
from dsa110_contimg.visibilities import measurement_set, observations
from dsa110_contimg.visibilities.measurement_set import Visibilities

BANDPASS_NAME = "bandpass.b"
GAINS_NAME = "gains.g"
RECORD_NAME = "set.json"


@dataclass(frozen=True)
class SolvedSet:
    """A calibration set on disk.

    Attributes
    ----------
    id : str
    path : Path
        Directory with the bandpass and gain tables and this record.
    tile_id : str
        Reference tile.
    observed : float
        Unix seconds of the middle of that tile.
    apparent_dec_deg : float
    reference_antenna : str
    flagged_fraction, median_snr, model_flux_jy, rfi_fraction : float
    n_model_sources : int
    sky_catalog : str
    bandpass_valid_s, gains_valid_s : float
    """

    id: str
    path: Path
    tile_id: str
    observed: float
    apparent_dec_deg: float
    reference_antenna: str
    flagged_fraction: float
    median_snr: float
    model_flux_jy: float
    rfi_fraction: float
    n_model_sources: int
    sky_catalog: str
    bandpass_valid_s: float
    gains_valid_s: float


def solve_limits(options: CalibrationSolveOptions) -> tile_calibration.SolveLimits:
    """The solver's part of the options."""
    return tile_calibration.SolveLimits(
        options.min_baselines, options.min_snr, options.uvmin, tuple(options.refant.split(","))
    )


def sky_model(vis: Visibilities, root: Path, options: SkyModelOptions) -> SkyModel:
    """Catalogue sources that the beam sees during a tile."""
    catalogue = catalogues.load(root, options.sky_catalog)
    return in_beam(
        catalogue, vis.pointings, float(vis.frequencies_hz.mean()),
        float(np.median(vis.array.dish_diameters_m)), observations.year(float(vis.times_jd[0])),
        options.model_radius_deg, options.model_min_jy,
    )  # fmt: skip


def solve(
    tile: ConvertedTile, output: Path, root: Path, options: CalibrationSolveOptions
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

    Raises
    ------
    CalibrationError
    """
    vis = measurement_set.read(tile.ms_path)
    model = sky_model(vis, root, options)
    solution = tile_calibration.solve_reference(vis, model, solve_limits(options))
    output.mkdir(parents=True)
    middle_s = float(vis.times_s.mean())
    for name, kind, gains in (
        (BANDPASS_NAME, "B Jones", solution.bandpass),
        (GAINS_NAME, "G Jones", solution.gains),
    ):
        table = tables.CalibrationTable(
            kind, gains, np.array([middle_s]), tile.duration_s, vis.array.names,
            vis.frequencies_hz, solution.reference_antenna,
        )  # fmt: skip
        tables.write(output / name, table, tile.ms_path)
    solved = SolvedSet(
        id=f"{tile.tile_id}_{options.key()}",
        path=output,
        tile_id=tile.tile_id,
        observed=tile.start + tile.duration_s / 2,
        apparent_dec_deg=tile.apparent_dec_deg,
        reference_antenna=solution.reference_antenna,
        flagged_fraction=solution.flagged_fraction,
        median_snr=solution.median_snr,
        model_flux_jy=solution.model_flux_jy,
        rfi_fraction=solution.rfi_fraction,
        n_model_sources=len(model),
        sky_catalog=options.sky_catalog,
        bandpass_valid_s=options.bandpass_valid_h * 3600,
        gains_valid_s=options.gains_valid_h * 3600,
    )
    (output / RECORD_NAME).write_text(json.dumps(records.to_json(solved), indent=1))
    return solved


def load_set(path: Path) -> SolvedSet:
    """A calibration set from its directory."""
    from dataclasses import replace

    from dsa110_contimg.errors import BadInputError

    record = path / RECORD_NAME
    if not record.exists():
        raise BadInputError(f"{path}: is not a calibration set (no {RECORD_NAME} in it)")
    return replace(records.from_json(SolvedSet, json.loads(record.read_text())), path=path)


def reference_index(n_tiles: int, reference_tile: int) -> int:
    """Which tile of a group is the reference, from 0."""
    return reference_tile - 1 if n_tiles >= reference_tile else n_tiles // 2


def fresh_set_path(root: Path, tile_id: str) -> Path:
    """A directory that nobody else writes to."""
    return root / "caltables" / f"{tile_id}_{uuid4().hex[:8]}"


class CalibrationSolveStage(Stage):
    """Solves the reference tile of `measurement_sets`."""

    inputs = ("measurement_sets",)
    outputs = ("calibration_set",)

    def __init__(self, options: CalibrationSolveOptions | None = None):
        self.options = options or CalibrationSolveOptions()

    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Solve."""
        tiles: Sequence[ConvertedTile] = context["measurement_sets"]
        tile = tiles[reference_index(len(tiles), self.options.reference_tile)]
        call = {
            "tile": tile,
            "output": fresh_set_path(context.root, tile.tile_id),
            "root": context.root,
            "options": self.options,
        }
        return {"calibration_set": context.map(solve, [call], "solution")[0]}
