"""Write Measurement Sets: always a new directory, which nothing changes afterwards."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.durable import whole
from dsa110_contimg.errors import BadInputError, OutageError
from dsa110_contimg.sky import astrometry
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.flagging import unflagged
from dsa110_contimg.visibilities.measurement_set import keywords

if TYPE_CHECKING:
    from casacore.tables import table

CORR_TYPE = {-1: 5, -2: 8, -3: 6, -4: 7, -5: 9, -6: 12, -7: 10, -8: 11}
"""Stokes enumeration of casacore for AIPS polarization numbers (RR LL RL LR XX YY XY YX)."""
_RECEPTORS = {
    -1: [0, 0],
    -2: [1, 1],
    -3: [0, 1],
    -4: [1, 0],
    -5: [0, 0],
    -6: [1, 1],
    -7: [0, 1],
    -8: [1, 0],
}


def write(path: Path, vis: Visibilities, *, spectral_weights: bool = False) -> None:
    """Write a new Measurement Set.

    Parameters
    ----------
    path : Path
        Must not exist.
    vis : Visibilities
    spectral_weights : bool
        Also write WEIGHT_SPECTRUM; WEIGHT is then its mean over channels.

    Raises
    ------
    BadInputError
        If it exists.
    OutageError
        If the disk does not take it.
    """
    if path.exists():
        raise BadInputError(f"{path}: exists already; a Measurement Set is never overwritten")
    try:
        with whole(path) as part:
            _write(part, vis, spectral_weights)
    except RuntimeError as error:
        raise OutageError(
            f"{path}: cannot be written ({error}); check the disk, its space and permissions"
        ) from error


def _write(path: Path, vis: Visibilities, spectral_weights: bool) -> None:
    from casacore import tables

    nrow, nchan, npol = vis.data.shape
    description, managers = _main_table(nchan, npol, spectral_weights)
    with tables.default_ms(str(path), description, managers) as ms:
        ms.addrows(nrow)
        ms.putcol("DATA", vis.data)
        ms.putcol("FLAG", vis.flags)
        ms.putcol("FLAG_ROW", unflagged(vis.flags)[0] == 0)
        ms.putcol("UVW", vis.uvw_m)
        if spectral_weights:
            ms.putcol("WEIGHT_SPECTRUM", np.ascontiguousarray(vis.weights))
        weight = vis.weights.mean(axis=1) if spectral_weights else vis.weights[:, 0]
        ms.putcol("WEIGHT", weight.astype(np.float32))
        with np.errstate(divide="ignore"):
            sigma = np.where(weight > 0, 1 / np.sqrt(weight), 0)
        ms.putcol("SIGMA", sigma.astype(np.float32))
        times_s = vis.times_s
        for name in ("TIME", "TIME_CENTROID"):
            ms.putcol(name, times_s[vis.time_index])
        for name in ("INTERVAL", "EXPOSURE"):
            ms.putcol(name, np.full(nrow, vis.integration_s))
        ms.putcol("ANTENNA1", vis.antenna1.astype(np.int32))
        ms.putcol("ANTENNA2", vis.antenna2.astype(np.int32))
        for name in (
            "ARRAY_ID",
            "DATA_DESC_ID",
            "FEED1",
            "FEED2",
            "FIELD_ID",
            "OBSERVATION_ID",
            "PROCESSOR_ID",
            "STATE_ID",
        ):
            ms.putcol(name, np.zeros(nrow, np.int32))
        ms.putcol("SCAN_NUMBER", np.ones(nrow, np.int32))
        span_s = times_s[[0, -1]] + np.array([-0.5, 0.5]) * vis.integration_s
        _write_antennas(ms, vis, span_s)
        _write_field(ms, vis, span_s)
        _write_spectral_setup(ms, vis)
        _write_observation(ms, vis, span_s)
        ra, dec = astrometry.vector_to_radec(vis.pointings)
        ms.putkeyword(keywords.DRIFT_KEYWORD, np.stack([times_s, ra, dec], axis=1))
        keywords.put_findings(ms, vis.beam, vis.unmodelled_jy)


def _main_table(
    nchan: int, npol: int, spectral_weights: bool
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Description of the main table and of its storage: samples in tiles of about a megabyte."""
    from casacore import tables

    rows_per_tile = max(1, 2**20 // (8 * nchan * npol))

    def cell(name: str, valuetype: str) -> Mapping[str, object]:
        return tables.makearrcoldesc(
            name,
            0,
            shape=[nchan, npol],
            valuetype=valuetype,
            options=4,
            datamanagertype="TiledColumnStMan",
            datamanagergroup=f"Tiled{name}",
        )

    cells = [cell("DATA", "complex"), cell("FLAG", "boolean")]
    if spectral_weights:
        cells.append(cell("WEIGHT_SPECTRUM", "float"))
    description = tables.required_ms_desc("MAIN")
    description.pop("FLAG")
    description.pop("FLAG_CATEGORY")
    description["FLAG_CATEGORY"] = tables.makearrcoldesc(
        "FLAG_CATEGORY", False, ndim=3, valuetype="boolean"
    )["desc"]
    description["FLAG_CATEGORY"]["keywords"] = {"CATEGORY": []}
    description["UVW"].update(shape=np.array([3], "int32"), ndim=1, option=5)
    for name in ("WEIGHT", "SIGMA"):
        description[name].update(shape=np.array([npol], "int32"), ndim=1, option=5)
    description.update(tables.maketabdesc(cells))
    managers = {
        f"*{i}": {
            "NAME": f"Tiled{column['name']}",
            "TYPE": "TiledColumnStMan",
            "SPEC": {"DEFAULTTILESHAPE": np.array([npol, nchan, rows_per_tile], "int32")},
            "COLUMNS": np.array([column["name"]]),
        }
        for i, column in enumerate(cells)
    }
    return description, managers


def _add_rows(ms: "table", subtable: str, nrow: int, **columns: object) -> None:
    from casacore import tables

    with tables.table(ms.getkeyword(subtable), readonly=False, ack=False) as rows:
        rows.addrows(nrow)
        for column, value in columns.items():
            rows.putcol(column, value)


def _write_antennas(ms: "table", vis: Visibilities, span_s: np.ndarray) -> None:
    """ANTENNA and FEED."""
    array, nant = vis.array, len(vis.array.names)
    receptors = ["X", "Y"] if vis.polarizations[0] <= -5 else ["R", "L"]
    _add_rows(
        ms,
        "ANTENNA",
        nant,
        NAME=list(array.names),
        STATION=list(array.names),
        TYPE=["GROUND-BASED"] * nant,
        MOUNT=["ALT-AZ"] * nant,
        POSITION=array.positions_itrf_m,
        OFFSET=np.zeros((nant, 3)),
        DISH_DIAMETER=array.dish_diameters_m,
        FLAG_ROW=np.zeros(nant, bool),
    )
    _add_rows(
        ms,
        "FEED",
        nant,
        ANTENNA_ID=np.arange(nant, dtype=np.int32),
        FEED_ID=np.zeros(nant, np.int32),
        SPECTRAL_WINDOW_ID=np.full(nant, -1, np.int32),
        TIME=np.full(nant, span_s.mean()),
        INTERVAL=np.full(nant, np.ptp(span_s)),
        NUM_RECEPTORS=np.full(nant, 2, np.int32),
        BEAM_ID=np.full(nant, -1, np.int32),
        BEAM_OFFSET=np.zeros((nant, 2, 2)),
        POLARIZATION_TYPE={"shape": [nant, 2], "array": receptors * nant},
        POL_RESPONSE=np.tile(np.eye(2, dtype=np.complex64), (nant, 1, 1)),
        POSITION=np.zeros((nant, 3)),
        RECEPTOR_ANGLE=np.zeros((nant, 2)),
    )


def _write_field(ms: "table", vis: Visibilities, span_s: np.ndarray) -> None:
    """FIELD, with its frame."""
    from casacore import tables

    centre = np.array(vis.phase_centre_rad).reshape(1, 1, 2)
    _add_rows(
        ms,
        "FIELD",
        1,
        NAME=[vis.field_name],
        CODE=[""],
        TIME=np.array([span_s.mean()]),
        NUM_POLY=np.zeros(1, np.int32),
        DELAY_DIR=centre,
        PHASE_DIR=centre,
        REFERENCE_DIR=centre,
        SOURCE_ID=np.full(1, -1, np.int32),
        FLAG_ROW=np.zeros(1, bool),
    )
    with tables.table(ms.getkeyword("FIELD"), readonly=False, ack=False) as field:
        for name in ("DELAY_DIR", "PHASE_DIR", "REFERENCE_DIR"):
            field.putcolkeyword(name, "MEASINFO", {"type": "direction", "Ref": "ICRS"})


def _write_spectral_setup(ms: "table", vis: Visibilities) -> None:
    """SPECTRAL_WINDOW, POLARIZATION and DATA_DESCRIPTION."""
    npol, nchan = len(vis.polarizations), vis.frequencies_hz.size
    _add_rows(
        ms,
        "SPECTRAL_WINDOW",
        1,
        NUM_CHAN=np.array([nchan], np.int32),
        NAME=["band"],
        REF_FREQUENCY=np.array([vis.frequencies_hz[0]]),
        CHAN_FREQ=vis.frequencies_hz.reshape(1, -1),
        CHAN_WIDTH=vis.channel_width_hz.reshape(1, -1),
        EFFECTIVE_BW=vis.channel_width_hz.reshape(1, -1),
        RESOLUTION=vis.channel_width_hz.reshape(1, -1),
        TOTAL_BANDWIDTH=np.array([vis.channel_width_hz.sum()]),
        MEAS_FREQ_REF=np.array([5], np.int32),
        NET_SIDEBAND=np.ones(1, np.int32),
        FREQ_GROUP=np.zeros(1, np.int32),
        FREQ_GROUP_NAME=[""],
        IF_CONV_CHAIN=np.zeros(1, np.int32),
        FLAG_ROW=np.zeros(1, bool),
    )
    _add_rows(
        ms,
        "POLARIZATION",
        1,
        NUM_CORR=np.array([npol], np.int32),
        CORR_TYPE=np.array([[CORR_TYPE[p] for p in vis.polarizations]], np.int32),
        CORR_PRODUCT=np.array([[_RECEPTORS[p] for p in vis.polarizations]], np.int32),
        FLAG_ROW=np.zeros(1, bool),
    )
    _add_rows(
        ms,
        "DATA_DESCRIPTION",
        1,
        SPECTRAL_WINDOW_ID=np.zeros(1, np.int32),
        POLARIZATION_ID=np.zeros(1, np.int32),
        FLAG_ROW=np.zeros(1, bool),
    )


def _write_observation(ms: "table", vis: Visibilities, span_s: np.ndarray) -> None:
    """OBSERVATION and HISTORY."""
    _add_rows(
        ms,
        "OBSERVATION",
        1,
        TELESCOPE_NAME=[vis.array.telescope_name],
        OBSERVER=["dsa110-contimg"],
        PROJECT=[""],
        SCHEDULE_TYPE=[""],
        TIME_RANGE=span_s.reshape(1, 2),
        RELEASE_DATE=span_s[1:],
        LOG={"shape": [1, 1], "array": [""]},
        SCHEDULE={"shape": [1, 1], "array": [""]},
        FLAG_ROW=np.zeros(1, bool),
    )
    if vis.notes:
        n = len(vis.notes)
        _add_rows(
            ms,
            "HISTORY",
            n,
            TIME=np.full(n, span_s.mean()),
            OBSERVATION_ID=np.zeros(n, np.int32),
            MESSAGE=list(vis.notes),
            PRIORITY=["NORMAL"] * n,
            ORIGIN=["dsa110-contimg"] * n,
            OBJECT_ID=np.zeros(n, np.int32),
            APPLICATION=["dsa110-contimg"] * n,
        )
