"""Apply a calibration set to one tile."""

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
from dsa110_contimg.artifacts.tiles import CalibratedTile, ConvertedTile
from dsa110_contimg.calibration import crosstalk, tables
from dsa110_contimg.calibration.antenna_state import AntennaState
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.source_fluxes import as_measured
from dsa110_contimg.calibration.tile import calibrate_tile
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.durable import check_new, sync_tree
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.executors.needs import needs
from dsa110_contimg.executors.own_disk import host_of
from dsa110_contimg.sky import astrometry
from dsa110_contimg.stage_options import CalibrationApplyOptions
from dsa110_contimg.tasks.sky_models import sky_model
from dsa110_contimg.visibilities import measurement_set, phasing
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.flagging import unflagged
from dsa110_contimg.visibilities.manual_flags import ManualFlag, apply_manual

_RECENTRED_RAD = 3 / 60 * np.pi / 180
"""A fiftieth of the half-power beam: less costs no sky."""


@needs(memory_gb=4.0)
def apply(
    tile: ConvertedTile,
    calibration_set: SolvedSet,
    output: Path | None,
    root: Path,
    options: CalibrationApplyOptions,
    manual_flags: Sequence[ManualFlag] = (),
) -> CalibratedTile:
    """Calibrate one tile.

    Parameters
    ----------
    tile : ConvertedTile
    calibration_set : SolvedSet
    output : Path or None
        Measurement Set to write; None adds CORRECTED_DATA to the tile's own.
    root : Path
        Where catalogues lie.
    options : CalibrationApplyOptions
    manual_flags : sequence of ManualFlag

    Raises
    ------
    BadInputError
        If tables and data do not fit together.
    UsageError
        If the output exists.
    """
    if output is not None:
        check_new([output])
    vis = measurement_set.read(tile.ms_path)
    vis = replace(vis, unmodelled_jy=calibration_set.unmodelled_jy)
    if calibration_set.beam is not None:
        vis = replace(vis, beam=calibration_set.beam.shape)
    n_given = int(unflagged(vis.flags)[0].sum()) if manual_flags else 0
    by_hand = apply_manual(vis, manual_flags)
    n_taken = n_given - int(unflagged(vis.flags)[0].sum()) if by_hand else 0
    bandpass = _gains_for(vis, tables.read(calibration_set.path / BANDPASS_NAME))
    gains = _gains_for(vis, tables.read(calibration_set.path / GAINS_NAME))
    model = None
    if options.refine_phases:
        model = as_measured(sky_model(vis, root, options), calibration_set.flux_scale)
    heard = crosstalk.read(calibration_set.path / CROSSTALK_NAME, vis.frequencies_hz)
    result = calibrate_tile(vis, bandpass, gains, model, options, heard)
    calibrated = result.vis if output is None else _centred(result.vis)
    notes = (
        *result.vis.notes,
        *by_hand,
        f"calibrated with set {calibration_set.id}",
        f"interference flagged in data minus model: {100 * result.rfi_fraction:.2f} %",
    )
    if output is None:
        measurement_set.add_corrected_data(
            tile.ms_path,
            result.vis.data,
            result.vis.flags,
            result.vis.beam,
            result.vis.unmodelled_jy,
        )
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        measurement_set.write(output, replace(calibrated, notes=notes), spectral_weights=True)
        if host_of(output):
            # Its machine may lose power and be back before anybody asks.
            sync_tree(output)
    return CalibratedTile(
        tile=tile,
        ms_path=output or tile.ms_path,
        calibration_set_id=calibration_set.id,
        flagged_fraction=result.flagged_fraction,
        rfi_fraction=result.rfi_fraction,
        phase_rms_deg=result.phase_rms_deg,
        noise_jy=result.noise_jy,
        host=host_of(output) if output is not None else tile.host,
        motion_arcsec=result.motion_rms_rad / ARCSEC_RAD,
        antennas=tuple(
            replace(one, state=AntennaState.NO_SIGNAL) if one.antenna in tile.dead_antennas else one
            for one in result.antennas
        ),
        far_sources=result.far_sources,
        flag_causes={"by hand": n_taken / max(1, n_given), **result.flag_causes},
    )


def _centred(vis: Visibilities) -> Visibilities:
    """Phased to the beam's centre, where that is far from the nominal one: images show the beam."""
    if np.hypot(vis.beam.east_rad, vis.beam.north_rad) < _RECENTRED_RAD:
        return vis
    ra, dec = astrometry.vector_to_radec(vis.beam_axis[vis.times_jd.size // 2])
    return phasing.move_centre(vis, (float(ra), float(dec)))


def _gains_for(vis: Visibilities, table: tables.CalibrationTable) -> Gains:
    """Gains of a table in the order of the data's antennas and channels."""
    position = {name: i for i, name in enumerate(table.antenna_names)}
    unknown = [n for n in np.array(vis.array.names)[vis.antennas_present()] if n not in position]
    if unknown:
        raise BadInputError(
            f"the calibration tables have no antenna {', '.join(unknown[:5])}; "
            "solve again on data of this array"
        )
    order = [position.get(name, 0) for name in vis.array.names]
    values, flags, snr = (
        array[:, order] for array in (table.gains.values, table.gains.flags, table.gains.snr)
    )
    if table.kind == "B Jones":
        width = float(np.median(vis.channel_width_hz))
        same = table.frequencies_hz.size == vis.frequencies_hz.size and np.allclose(
            table.frequencies_hz, vis.frequencies_hz, atol=0.01 * width, rtol=0
        )
        if not same:
            raise BadInputError(
                "the bandpass table's channels are not those of the data; solve again on data "
                "with the same channels"
            )
    return Gains(values, flags, snr)
