"""Read Measurement Sets, of this array or another, and add calibrated data to a user's own."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD, DAY_S, MJD_ZERO_JD
from dsa110_contimg.errors import BadInputError, OutageError, disk_failed, unreadable
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import NOMINAL_BEAM, BeamShape
from dsa110_contimg.visibilities.data import Array, Visibilities
from dsa110_contimg.visibilities.dishes import DISH_DIAMETERS_M
from dsa110_contimg.visibilities.measurement_set import frames, keywords
from dsa110_contimg.visibilities.measurement_set.writing import CORR_TYPE

if TYPE_CHECKING:
    from casacore.tables import table

_ROWS_AT_ONCE = 1024
_SAME_RAD = ARCSEC_RAD
_EARTH_RADIUS_MIN_M = 6.3e6


def read(path: Path, column: str = "DATA", field: str | None = None) -> Visibilities:
    """Read one field of a Measurement Set; spectral windows are joined in order of frequency.

    Autocorrelations are left out. What is not finite is flagged, and phase centres of other frames
    are turned to ICRS with the baselines. The pointing is the POINTING table's where it is one of
    the sky, else the field's phase centre.

    Parameters
    ----------
    path : Path
    column : str
        DATA or CORRECTED_DATA.
    field : str, optional
        Name or number of the field, needed where there are several.

    Raises
    ------
    BadInputError
        If it is no MS, lacks the column or the field, holds no antenna positions or diameters,
        its spectral windows do not have the same rows and polarizations, or it is in a frame that
        does not turn with the sky.
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
        _flag_what_is_not_finite(rows, column)
        window_of = _column(ms, "DATA_DESCRIPTION", "SPECTRAL_WINDOW_ID")
        frequencies_hz, widths_hz = (
            np.concatenate([_cell(ms, "SPECTRAL_WINDOW", name, int(window_of[d])) for d in windows])
            for name in ("CHAN_FREQ", "CHAN_WIDTH")
        )
        times_s, time_index = np.unique(rows["TIME"], return_inverse=True)
        positions = _column(ms, "ANTENNA", "POSITION")
        centre = frames.phase_centre(path, ms, number)
        telescope_name = _column(ms, "OBSERVATION", "TELESCOPE_NAME")[0]
        vis = Visibilities(
            data=rows[column],
            flags=rows["FLAG"],
            weights=rows["WEIGHT"],
            uvw_m=centre.turned(rows["UVW"]),
            antenna1=rows["ANTENNA1"],
            antenna2=rows["ANTENNA2"],
            time_index=time_index,
            times_jd=times_s / DAY_S + MJD_ZERO_JD,
            integration_s=float(np.median(rows["INTERVAL"])),
            frequencies_hz=frequencies_hz,
            channel_width_hz=np.abs(widths_hz),
            polarizations=_polarizations(path, ms, windows),
            phase_centre_rad=centre.icrs_rad,
            pointings=_pointings(ms, times_s, centre.icrs_rad),
            array=Array(
                telescope_name=telescope_name,
                names=tuple(_column(ms, "ANTENNA", "NAME")),
                positions_itrf_m=positions,
                dish_diameters_m=_dishes(path, ms, telescope_name),
                site=_site(path, positions),
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
        ra, dec = np.rad2deg(frames.phase_centre(path, ms, 0).icrs_rad)
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


@contextlib.contextmanager
def _open(path: Path, readonly: bool = True) -> "Iterator[table]":
    """Open the main table; what casacore cannot read within the block is the file's fault."""
    from casacore import tables

    if not (path / "table.dat").exists():
        raise unreadable(path, "is not a Measurement Set (no table.dat in it)")
    try:
        with tables.table(str(path), readonly=readonly, ack=False) as ms:
            yield ms
    except RuntimeError as error:
        if readonly and not disk_failed(error):
            raise BadInputError(f"{path}: cannot be read as a Measurement Set ({error})") from error
        raise OutageError(
            f"{path}: the disk failed ({error}); check it, its space and permissions"
        ) from error


def _one_field(path: Path, ms: "table", field: str | None) -> "tuple[int, table]":
    """Number of the field, and the table of its rows.

    Fields of one name at one place are one field.
    """
    names = list(_column(ms, "FIELD", "NAME"))
    present = [int(n) for n in np.unique(ms.getcol("FIELD_ID"))]
    wanted = [n for n in present if field is None or names[n] == field]
    if not wanted and field is not None and field.isdigit() and int(field) in present:
        wanted = [int(field)]
    centres = [frames.phase_centre(path, ms, n).icrs_rad for n in wanted]
    one = len({names[n] for n in wanted}) == 1 and np.ptp(centres, axis=0).max() < _SAME_RAD
    if not one:
        there = ", ".join(f"{n}: {names[n]}" for n in present)
        what = "holds several fields" if len(wanted) > 1 else f"holds no field {field!r}"
        raise BadInputError(f"{path}: {what} ({there}); choose one by name or number with --field")
    if wanted == present:
        return wanted[0], ms
    return wanted[0], ms.query(f"FIELD_ID IN [{','.join(map(str, wanted))}]")


def _flag_what_is_not_finite(rows: dict[str, np.ndarray], column: str) -> None:
    """Flag samples that are no numbers, or whose weight is none, in place."""
    data, flags, weights = rows[column], rows["FLAG"], rows["WEIGHT"]
    if weights.strides[1] == 0:
        # One weight for all channels of a row.
        of_row = np.array(weights[:, :1])
        bad = _no_weight(of_row)
        if bad.any():
            of_row[bad] = 0
            flags |= bad
            rows["WEIGHT"] = np.broadcast_to(of_row, weights.shape)
    for first in range(0, len(data), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        bad = ~np.isfinite(data[part])
        if bad.any():
            data[part][bad] = 0
            flags[part] |= bad
        if weights.strides[1] != 0:
            bad = _no_weight(weights[part])
            if bad.any():
                weights[part][bad] = 0
                flags[part] |= bad


def _no_weight(weights: np.ndarray) -> np.ndarray:
    """True where a weight is negative or no number."""
    return ~((weights >= 0) & (weights < np.inf))


def _polarizations(path: Path, ms: "table", windows: np.ndarray) -> tuple[int, ...]:
    """AIPS numbers of the polarizations, which all data descriptions must share."""
    setups = _column(ms, "DATA_DESCRIPTION", "POLARIZATION_ID")
    types = {
        tuple(int(t) for t in _cell(ms, "POLARIZATION", "CORR_TYPE", setups[d])) for d in windows
    }
    if len(types) > 1:
        raise BadInputError(
            f"{path}: its data descriptions have different polarizations; split out one of them"
        )
    aips = {value: key for key, value in CORR_TYPE.items()}
    (only,) = types
    unknown = [value for value in only if value not in aips]
    if unknown:
        raise BadInputError(
            f"{path}: polarizations {unknown} (Stokes enumeration of casacore) are neither linear "
            "nor circular"
        )
    return tuple(aips[value] for value in only)


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


def _pointings(ms: "table", times_s: np.ndarray, centre_rad: tuple[float, float]) -> np.ndarray:
    """ICRS directions of the dish axis: ours, else POINTING's, else the phase centre.

    Of POINTING, directions in frames that do not turn with the sky are not used, nor zeros, which
    converters write that know none.
    """
    here = np.array([centre_rad[0]]), np.array([centre_rad[1]])
    antennas: Sequence[int] = _column(ms, "POINTING", "ANTENNA_ID")
    if keywords.DRIFT_KEYWORD in ms.keywordnames():
        at_s, ra, dec = ms.getkeyword(keywords.DRIFT_KEYWORD).T
    elif len(antennas) and frames.is_equatorial(ms, "POINTING", "DIRECTION"):
        first = np.asarray(antennas) == antennas[0]
        at_s = _column(ms, "POINTING", "TIME")[first]
        directions = _column(ms, "POINTING", "DIRECTION")[first].reshape(int(first.sum()), -1)
        ra, dec = directions[:, 0], directions[:, 1]
        if not (np.isfinite(directions).all() and directions.any()):
            at_s, (ra, dec) = times_s[:1], here
    else:
        at_s, (ra, dec) = times_s[:1], here
    nearest = np.abs(at_s[None, :] - times_s[:, None]).argmin(axis=1)
    return astrometry.radec_to_vector(ra, dec)[nearest]


def _dishes(path: Path, ms: "table", telescope_name: str) -> np.ndarray:
    """Diameters of the dishes, those that are known of the telescope where the file has none."""
    diameters = np.asarray(_column(ms, "ANTENNA", "DISH_DIAMETER"), float)
    without = ~(np.isfinite(diameters) & (diameters > 0))
    if not without.any():
        return diameters
    known = DISH_DIAMETERS_M.get(telescope_name)
    if known is None:
        raise BadInputError(
            f"{path}: {int(without.sum())} of its antennas have no DISH_DIAMETER, which the "
            f"primary beam needs, and {telescope_name}'s is not known; write it to the ANTENNA "
            "table"
        )
    return np.where(without, known, diameters)


def _site(path: Path, positions_itrf_m: np.ndarray) -> astrometry.Site:
    import erfa

    middle = np.median(positions_itrf_m, axis=0)
    if not np.isfinite(positions_itrf_m).all() or np.hypot.reduce(middle) < _EARTH_RADIUS_MIN_M:
        raise BadInputError(
            f"{path}: the positions of its antennas are not on the Earth (ITRF metres are needed); "
            "correct POSITION in the ANTENNA table"
        )
    longitude, latitude, height = erfa.gc2gd(1, middle)
    return astrometry.Site(float(latitude), float(longitude), float(height))
