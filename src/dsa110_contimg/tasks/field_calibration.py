"""Calibrators and targets in turn: solve the ones, apply to the others, with tables on disk.

For arrays that track. A drift scan is calibrated against the sky: see `calibration_solve`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.calibration import BANDPASS_NAME, GAINS_NAME
from dsa110_contimg.calibration import tables
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.fields import FieldCalibration, calibrate_fields, calibration_at
from dsa110_contimg.calibration.options import FieldSolveOptions
from dsa110_contimg.durable import check_new
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.visibilities import measurement_set

DELAYS_NAME = "delays.k"
FLUXES_NAME = "fluxes.json"


def solve_fields(
    bandpass_ms: Path, gain_ms: Sequence[Path], output: Path, options: FieldSolveOptions
) -> FieldCalibration:
    """Solve delays, bandpass and gains of calibrators; write K, B and G tables.

    Parameters
    ----------
    bandpass_ms : Path
        Measurement Set of a bright calibrator.
    gain_ms : sequence of Path
        Measurement Sets of calibrators, a primary one among them.
    output : Path
        Directory to make.
    options : FieldSolveOptions

    Raises
    ------
    CalibrationError, BadInputError, UsageError
    """
    check_new([output])
    bandpass_field = measurement_set.read(bandpass_ms)
    gain_fields = [
        bandpass_field if path == bandpass_ms else measurement_set.read(path) for path in gain_ms
    ]
    solved = calibrate_fields(bandpass_field, gain_fields, options)
    output.mkdir(parents=True)
    names = bandpass_field.array.names
    middle_s = np.array([float(bandpass_field.times_s.mean())])
    length_s = float(np.ptp(bandpass_field.times_s)) + bandpass_field.integration_s
    tables.write_delays(
        output / DELAYS_NAME,
        tables.DelayTable(
            solved.delays_s,
            solved.delay_flags,
            middle_s,
            length_s,
            names,
            solved.delay_reference_hz,
            solved.reference_antenna,
        ),
        bandpass_ms,
    )
    for name, kind, gains, times_s in (
        (BANDPASS_NAME, "B Jones", solved.bandpass, middle_s),
        (GAINS_NAME, "G Jones", solved.gains, solved.gain_times_s),
    ):
        table = tables.CalibrationTable(
            kind,
            gains,
            times_s,
            length_s,
            names,
            bandpass_field.frequencies_hz,
            solved.reference_antenna,
        )
        tables.write(output / name, table, bandpass_ms)
    (output / FLUXES_NAME).write_text(json.dumps(dict(solved.flux_jy), indent=1))
    return solved


def apply_fields(directory: Path, ms_path: Path, output: Path) -> None:
    """Calibrate a Measurement Set with the tables of `solve_fields`.

    Raises
    ------
    BadInputError, UsageError
    """
    check_new([output])
    vis = measurement_set.read(ms_path)
    delays = tables.read_delays(directory / DELAYS_NAME)
    bandpass = tables.read(directory / BANDPASS_NAME)
    gains = tables.read(directory / GAINS_NAME)
    if bandpass.antenna_names != vis.array.names:
        raise BadInputError(f"{directory}: its tables are of other antennas than {ms_path}")
    if bandpass.frequencies_hz.size != vis.frequencies_hz.size:
        raise BadInputError(f"{directory}: its bandpass has other channels than {ms_path}")
    found = FieldCalibration(
        delays.delays_s,
        delays.flags,
        delays.reference_hz,
        bandpass.gains,
        gains.gains,
        gains.times_s,
        gains.reference_antenna,
        {},
    )
    calibrated = apply_gains(vis, *calibration_at(found, vis), interval=vis.time_index)
    calibrated.weights[calibrated.flags] = 0
    notes = (*vis.notes, f"calibrated with the tables of {directory.name}")
    measurement_set.write(output, replace(calibrated, notes=notes), spectral_weights=True)
