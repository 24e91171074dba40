"""Calibration sets as directories: load one, combine two."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from dsa110_contimg import records
from dsa110_contimg.artifacts.calibration import (
    BANDPASS_NAME,
    COMBINED,
    CROSSTALK_NAME,
    GAINS_NAME,
    RECORD_NAME,
    SolvedSet,
)
from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.durable import whole
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.stage_options import CalibrationSolveOptions


def write_record(directory: Path, solved: SolvedSet) -> None:
    """What a set is; where it lies is said by where it is found."""
    record = records.to_json(replace(solved, path=Path()))
    (directory / RECORD_NAME).write_text(json.dumps(record, indent=1))


def load_set(path: Path) -> SolvedSet:
    """A calibration set from its directory.

    Raises
    ------
    BadInputError
    """
    record = path / RECORD_NAME
    if (path / "table.dat").exists():
        raise BadInputError(
            f"{path}: is a table, not a calibration set: give a directory that 'calibrate' made; "
            "tables of CASA can be drawn ('caltables plot') but not applied, because a set holds "
            "the model and the beam that its gains belong to"
        )
    if not record.exists():
        raise BadInputError(
            f"{path}: is not a calibration set (no {RECORD_NAME} in it); give a directory that "
            "'calibrate' made"
        )
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
        write_record(part, combined)
    return combined
