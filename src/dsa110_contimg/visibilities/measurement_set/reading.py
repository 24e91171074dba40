"""Read Measurement Sets, of this array or another, and add calibrated data to a user's own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsa110_contimg.constants import DAY_S, MJD_ZERO_JD
from dsa110_contimg.errors import BadInputError, unreadable
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import NOMINAL_BEAM, BeamShape
from dsa110_contimg.visibilities.data import Array, Visibilities
from dsa110_contimg.visibilities.measurement_set import keywords
from dsa110_contimg.visibilities.measurement_set.writing import CORR_TYPE

if TYPE_CHECKING:
    from casacore.tables import table


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
            beam=keywords.beam(ms),
            unmodelled_jy=keywords.unmodelled_jy(ms),
        )
    return _ascending(vis)


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
        keywords.put_findings(ms, beam, unmodelled_jy)


def _open(path: Path, readonly: bool = True) -> "table":
    from casacore import tables

    if not (path / "table.dat").exists():
        raise unreadable(path, "is not a Measurement Set (no table.dat in it)")
    try:
        return tables.table(str(path), readonly=readonly, ack=False)
    except RuntimeError as error:
        raise BadInputError(f"{path}: cannot be opened as a Measurement Set ({error})") from error


def _one_field(path: Path, ms: "table", field: str | None) -> "tuple[int, table]":
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


def _rows(ms: "table", column: str) -> dict[str, np.ndarray]:
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


def _column(ms: "table", subtable: str, column: str) -> Any:
    from casacore import tables

    with tables.table(ms.getkeyword(subtable), ack=False) as rows:
        return rows.getcol(column) if rows.nrows() else []


def _cell(ms: "table", subtable: str, column: str, row: int) -> np.ndarray:
    from casacore import tables

    with tables.table(ms.getkeyword(subtable), ack=False) as rows:
        return np.asarray(rows.getcell(column, row))


def _pointings(ms: "table", times_s: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """ICRS directions of the dish axis: ours, else POINTING's, else the phase centre."""
    antennas: Sequence[int] = _column(ms, "POINTING", "ANTENNA_ID")
    if keywords.DRIFT_KEYWORD in ms.keywordnames():
        at_s, ra, dec = ms.getkeyword(keywords.DRIFT_KEYWORD).T
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
