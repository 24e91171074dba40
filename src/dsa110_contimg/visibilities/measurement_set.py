"""Measurement Sets (MeasurementSet 2.0 on disk) to and from plain arrays.

One writer per table, always a fresh directory: a finished MS is never changed again,
except by `add_corrected_data` on a user's own file.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.constants import DAY_S, MJD_ZERO_JD
from dsa110_contimg.durable import whole
from dsa110_contimg.errors import BadInputError, OutageError, unreadable
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.primary_beam import NOMINAL_BEAM, AntennaBeams, BeamShape
from dsa110_contimg.visibilities.data import Array, Visibilities
from dsa110_contimg.visibilities.flagging import unflagged

DRIFT_KEYWORD = "DRIFT_POINTING"
"""Keyword of the main table: rows of time (MJD s), right ascension, declination (ICRS, rad) of the
dish axis. It is no POINTING table because xradio's schema refuses its own reading of one."""
BEAM_KEYWORD = "PRIMARY_BEAM"
"""Keyword of the main table where the beam was measured: width over that of the dish, and where its
centre is from the dish axis, east and north (rad)."""
UNMODELLED_KEYWORD = "UNMODELLED_JY"
"""Keyword of the main table where the sky without a model was measured: `unmodelled_jy` of
`Visibilities`."""
CORR_TYPE = {-1: 5, -2: 8, -3: 6, -4: 7, -5: 9, -6: 12, -7: 10, -8: 11}
"""Stokes enumeration of casacore for AIPS polarization numbers (RR LL RL LR XX YY XY YX)."""


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
    rows_per_tile = max(1, 2**20 // (8 * nchan * npol))

    def cell(name: str, valuetype: str) -> dict[str, Any]:
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
        _write_subtables(ms, vis, times_s)


def _write_subtables(ms: Any, vis: Visibilities, times_s: np.ndarray) -> None:
    from casacore import tables

    def subtable(name: str, nrow: int, **columns: Any) -> None:
        with tables.table(ms.getkeyword(name), readonly=False, ack=False) as table:
            table.addrows(nrow)
            for column, value in columns.items():
                table.putcol(column, value)

    array, nant = vis.array, len(vis.array.names)
    npol, nchan = len(vis.polarizations), vis.frequencies_hz.size
    receptors = ["X", "Y"] if vis.polarizations[0] <= -5 else ["R", "L"]
    centre = np.array(vis.phase_centre_rad).reshape(1, 1, 2)
    span_s = np.array([times_s[0] - vis.integration_s / 2, times_s[-1] + vis.integration_s / 2])
    middle_s = np.array([span_s.mean()])

    subtable(
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
    subtable(
        "FEED",
        nant,
        ANTENNA_ID=np.arange(nant, dtype=np.int32),
        FEED_ID=np.zeros(nant, np.int32),
        SPECTRAL_WINDOW_ID=np.full(nant, -1, np.int32),
        TIME=np.repeat(middle_s, nant),
        INTERVAL=np.full(nant, np.ptp(span_s)),
        NUM_RECEPTORS=np.full(nant, 2, np.int32),
        BEAM_ID=np.full(nant, -1, np.int32),
        BEAM_OFFSET=np.zeros((nant, 2, 2)),
        POLARIZATION_TYPE={"shape": [nant, 2], "array": receptors * nant},
        POL_RESPONSE=np.tile(np.eye(2, dtype=np.complex64), (nant, 1, 1)),
        POSITION=np.zeros((nant, 3)),
        RECEPTOR_ANGLE=np.zeros((nant, 2)),
    )
    subtable(
        "FIELD",
        1,
        NAME=[vis.field_name],
        CODE=[""],
        TIME=middle_s,
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
    subtable(
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
    subtable(
        "POLARIZATION",
        1,
        NUM_CORR=np.array([npol], np.int32),
        CORR_TYPE=np.array([[CORR_TYPE[p] for p in vis.polarizations]], np.int32),
        CORR_PRODUCT=np.array([[_RECEPTORS[p] for p in vis.polarizations]], np.int32),
        FLAG_ROW=np.zeros(1, bool),
    )
    subtable(
        "DATA_DESCRIPTION",
        1,
        SPECTRAL_WINDOW_ID=np.zeros(1, np.int32),
        POLARIZATION_ID=np.zeros(1, np.int32),
        FLAG_ROW=np.zeros(1, bool),
    )
    subtable(
        "OBSERVATION",
        1,
        TELESCOPE_NAME=[array.telescope_name],
        OBSERVER=["dsa110-contimg"],
        PROJECT=[""],
        SCHEDULE_TYPE=[""],
        TIME_RANGE=span_s.reshape(1, 2),
        RELEASE_DATE=span_s[1:],
        LOG={"shape": [1, 1], "array": [""]},
        SCHEDULE={"shape": [1, 1], "array": [""]},
        FLAG_ROW=np.zeros(1, bool),
    )
    ra, dec = astrometry.vector_to_radec(vis.pointings)
    ms.putkeyword(DRIFT_KEYWORD, np.stack([times_s, ra, dec], axis=1))
    _put_findings(ms, vis.beam, vis.unmodelled_jy)
    if vis.notes:
        n = len(vis.notes)
        subtable(
            "HISTORY",
            n,
            TIME=np.repeat(middle_s, n),
            OBSERVATION_ID=np.zeros(n, np.int32),
            MESSAGE=list(vis.notes),
            PRIORITY=["NORMAL"] * n,
            ORIGIN=["dsa110-contimg"] * n,
            OBJECT_ID=np.zeros(n, np.int32),
            APPLICATION=["dsa110-contimg"] * n,
        )


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


def read(path: Path, column: str = "DATA", field: str | None = None) -> Visibilities:
    """Read one field of a Measurement Set; spectral windows are joined in order of frequency.

    Autocorrelations are left out. The pointing is the POINTING table's for arrays that
    drift, else the field's phase centre.

    Parameters
    ----------
    path : Path
    column : str
        DATA or CORRECTED_DATA.
    field : str, optional
        Name of the field, needed where there are several.

    Raises
    ------
    BadInputError
        If it is no MS, lacks the column or the field, or its spectral windows do not have the
        same rows.
    """
    with _open(path) as ms:
        if column not in ms.colnames():
            raise BadInputError(f"{path}: has no column {column}")
        if ms.nrows() == 0:
            raise BadInputError(f"{path}: has no rows")
        number, ms_of_field = _one_field(path, ms, field)
        windows = np.unique(ms_of_field.getcol("DATA_DESC_ID"))
        if windows.size == 1:
            rows = _rows(ms_of_field, column)
        else:
            rows = _joined(
                path, [_rows(ms_of_field.query(f"DATA_DESC_ID=={d}"), column) for d in windows]
            )
        window_of = _column(ms, "DATA_DESCRIPTION", "SPECTRAL_WINDOW_ID")
        frequencies_hz, widths_hz = (
            np.concatenate([_cell(ms, "SPECTRAL_WINDOW", name, int(window_of[d])) for d in windows])
            for name in ("CHAN_FREQ", "CHAN_WIDTH")
        )
        times_s, time_index = np.unique(rows["TIME"], return_inverse=True)
        positions = _column(ms, "ANTENNA", "POSITION")
        centre = _column(ms, "FIELD", "PHASE_DIR")[number].reshape(-1)[:2]
        corr_types = _column(ms, "POLARIZATION", "CORR_TYPE")[0]
        aips = {value: key for key, value in CORR_TYPE.items()}
        vis = Visibilities(
            data=rows[column],
            flags=rows["FLAG"],
            weights=rows["WEIGHT"],
            uvw_m=rows["UVW"],
            antenna1=rows["ANTENNA1"],
            antenna2=rows["ANTENNA2"],
            time_index=time_index,
            times_jd=times_s / DAY_S + MJD_ZERO_JD,
            integration_s=float(np.median(rows["INTERVAL"])),
            frequencies_hz=frequencies_hz,
            channel_width_hz=np.abs(widths_hz),
            polarizations=tuple(aips[int(value)] for value in corr_types),
            phase_centre_rad=(float(centre[0]), float(centre[1])),
            pointings=_pointings(ms, times_s, centre),
            array=Array(
                telescope_name=_column(ms, "OBSERVATION", "TELESCOPE_NAME")[0],
                names=tuple(_column(ms, "ANTENNA", "NAME")),
                positions_itrf_m=positions,
                dish_diameters_m=_column(ms, "ANTENNA", "DISH_DIAMETER"),
                site=_site(positions),
            ),
            field_name=_column(ms, "FIELD", "NAME")[number],
            notes=tuple(_column(ms, "HISTORY", "MESSAGE")),
            beam=_beam(ms),
            unmodelled_jy=_unmodelled_jy(ms),
        )
    return _ascending(vis)


def _beam(ms: Any) -> BeamShape:
    """The primary beam that the data were calibrated with."""
    if BEAM_KEYWORD not in ms.keywordnames():
        return NOMINAL_BEAM
    shape = json.loads(ms.getkeyword(BEAM_KEYWORD))
    if shape["antennas"] is not None:
        columns = {name: tuple(values) for name, values in shape["antennas"].items()}
        shape["antennas"] = AntennaBeams(**columns)
    return BeamShape(**shape)


def _unmodelled_jy(ms: Any) -> float:
    if UNMODELLED_KEYWORD not in ms.keywordnames():
        return 0.0
    return float(ms.getkeyword(UNMODELLED_KEYWORD))


def _put_findings(ms: Any, beam: BeamShape, unmodelled_jy: float) -> None:
    """Write what was found out about beam and sky, in place of what was known before."""
    known = ms.keywordnames()
    if beam != NOMINAL_BEAM:
        ms.putkeyword(BEAM_KEYWORD, json.dumps(dataclasses.asdict(beam)))
    elif BEAM_KEYWORD in known:
        ms.removekeyword(BEAM_KEYWORD)
    if unmodelled_jy:
        ms.putkeyword(UNMODELLED_KEYWORD, unmodelled_jy)
    elif UNMODELLED_KEYWORD in known:
        ms.removekeyword(UNMODELLED_KEYWORD)


def _one_field(path: Path, ms: Any, field: str | None) -> tuple[int, Any]:
    """Number of the field, and the table of its rows."""
    names = list(_column(ms, "FIELD", "NAME"))
    present = [int(n) for n in np.unique(ms.getcol("FIELD_ID"))]
    wanted = [n for n in present if field is None or names[n] == field]
    if len(wanted) != 1:
        raise BadInputError(
            f"{path}: {'holds several fields' if field is None else f'holds no field {field!r}'} "
            f"({', '.join(names[n] for n in present)}); choose one with --field"
        )
    only = len(present) == 1
    return wanted[0], ms if only else ms.query(f"FIELD_ID=={wanted[0]}")


def _rows(ms: Any, column: str) -> dict[str, np.ndarray]:
    """Columns of all cross-correlations."""
    antenna1, antenna2 = ms.getcol("ANTENNA1"), ms.getcol("ANTENNA2")
    cross = antenna1 != antenna2
    every = bool(cross.all())

    def get(name: str) -> np.ndarray:
        values = ms.getcol(name)
        return values if every else values[cross]

    def get_samples(name: str) -> np.ndarray:
        cell = np.asarray(ms.getcell(name, 0))
        # Into an array of ours: `getcol` makes one more copy of all.
        values = np.empty((ms.nrows(), *cell.shape), cell.dtype)
        ms.getcolnp(name, values)
        return values if every else values[cross]

    rows = {name: get_samples(name) for name in (column, "FLAG")}
    rows |= {name: get(name) for name in ("TIME", "INTERVAL", "UVW")}
    rows["FLAG"] |= get("FLAG_ROW")[:, None, None]
    if "WEIGHT_SPECTRUM" in ms.colnames() and ms.iscelldefined("WEIGHT_SPECTRUM", 0):
        rows["WEIGHT"] = get_samples("WEIGHT_SPECTRUM")
    else:
        rows["WEIGHT"] = np.broadcast_to(get("WEIGHT")[:, None, :], rows[column].shape)
    rows["ANTENNA1"] = antenna1 if every else antenna1[cross]
    rows["ANTENNA2"] = antenna2 if every else antenna2[cross]
    return rows


def _joined(path: Path, parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Spectral windows side by side; each must have the same baselines and times."""
    keys = ("TIME", "ANTENNA1", "ANTENNA2")
    ordered = []
    for part in parts:
        order = np.lexsort((part["ANTENNA2"], part["ANTENNA1"], part["TIME"]))
        ordered.append({name: values[order] for name, values in part.items()})
    first = ordered[0]
    for part in ordered[1:]:
        if any(not np.array_equal(part[key], first[key]) for key in keys):
            raise BadInputError(
                f"{path}: its spectral windows do not have the same baselines and times; "
                "split them first"
            )
    across = [name for name, values in first.items() if values.ndim == 3]
    return first | {name: np.concatenate([p[name] for p in ordered], axis=1) for name in across}


def _ascending(vis: Visibilities) -> Visibilities:
    """The same with channels in ascending order of frequency."""
    if np.all(np.diff(vis.frequencies_hz) > 0):
        return vis
    order = np.argsort(vis.frequencies_hz, kind="stable")
    return replace(
        vis,
        data=vis.data[:, order],
        flags=vis.flags[:, order],
        weights=vis.weights[:, order],
        frequencies_hz=vis.frequencies_hz[order],
        channel_width_hz=vis.channel_width_hz[order],
    )


def phase_centre_deg(path: Path) -> tuple[float, float]:
    """Right ascension and declination of the first field."""
    with _open(path) as ms:
        ra, dec = np.rad2deg(_column(ms, "FIELD", "PHASE_DIR")[0].reshape(-1)[:2])
    return float(ra % 360), float(dec)


def add_corrected_data(
    path: Path,
    corrected: np.ndarray,
    flags: np.ndarray,
    beam: BeamShape = NOMINAL_BEAM,
    unmodelled_jy: float = 0.0,
) -> None:
    """Add or replace CORRECTED_DATA and FLAG of a user's own Measurement Set, in place.

    What calibration found out about the beam and the sky is written with them.
    """
    from casacore import tables

    with _open(path, readonly=False) as ms:
        if corrected.shape[0] != ms.nrows():
            raise BadInputError(
                f"{path}: has {ms.nrows()} rows, {corrected.shape[0]} were calibrated; "
                "split out the autocorrelations first"
            )
        if "CORRECTED_DATA" not in ms.colnames():
            description = tables.makearrcoldesc(
                "CORRECTED_DATA", 0, shape=list(corrected.shape[1:]), valuetype="complex"
            )
            ms.addcols(tables.maketabdesc([description]))
        ms.putcol("CORRECTED_DATA", corrected)
        ms.putcol("FLAG", flags)
        _put_findings(ms, beam, unmodelled_jy)


def _open(path: Path, readonly: bool = True) -> Any:
    from casacore import tables

    if not (path / "table.dat").exists():
        raise unreadable(path, "is not a Measurement Set (no table.dat in it)")
    try:
        return tables.table(str(path), readonly=readonly, ack=False)
    except RuntimeError as error:
        raise BadInputError(f"{path}: cannot be opened as a Measurement Set ({error})") from error


def _column(ms: Any, subtable: str, column: str) -> Any:
    from casacore import tables

    with tables.table(ms.getkeyword(subtable), ack=False) as table:
        return table.getcol(column) if table.nrows() else []


def _cell(ms: Any, subtable: str, column: str, row: int) -> np.ndarray:
    from casacore import tables

    with tables.table(ms.getkeyword(subtable), ack=False) as table:
        return np.asarray(table.getcell(column, row))


def _pointings(ms: Any, times_s: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """ICRS directions of the dish axis: ours, else POINTING's, else the phase centre."""
    antennas: Sequence[int] = _column(ms, "POINTING", "ANTENNA_ID")
    if DRIFT_KEYWORD in ms.keywordnames():
        at_s, ra, dec = ms.getkeyword(DRIFT_KEYWORD).T
    elif len(antennas):
        first = np.asarray(antennas) == antennas[0]
        at_s = _column(ms, "POINTING", "TIME")[first]
        directions = _column(ms, "POINTING", "DIRECTION")[first].reshape(int(first.sum()), -1)
        ra, dec = directions[:, 0], directions[:, 1]
    else:
        at_s, ra, dec = times_s[:1], centre[:1], centre[1:2]
    nearest = np.abs(at_s[None, :] - times_s[:, None]).argmin(axis=1)
    return astrometry.radec_to_vector(ra, dec)[nearest]


def _site(positions_itrf_m: np.ndarray) -> astrometry.Site:
    import erfa

    longitude, latitude, height = erfa.gc2gd(1, np.median(positions_itrf_m, axis=0))
    return astrometry.Site(float(latitude), float(longitude), float(height))
