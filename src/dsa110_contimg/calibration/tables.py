"""Calibration tables in CASA's format, so that CASA reads ours and we read CASA's.

A table holds one row an antenna and solution interval: CPARAM (nchan, npol) or for delays FPARAM
(1, npol), PARAMERR, FLAG, SNR;
its subtables describe antennas, field and spectral window. Gains are in the convention
of the Measurement Set: corrected = observed / (g_1 conj(g_2)).
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.errors import BadInputError

_READ = ("TIME", "ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID", "INTERVAL", "FLAG", "SNR")
_KINDS = ("B Jones", "G Jones")
_SUBTABLES = ("OBSERVATION", "ANTENNA", "FIELD", "SPECTRAL_WINDOW", "HISTORY")
_turn = threading.Lock()


@dataclass(frozen=True, eq=False)
class CalibrationTable:
    """Gains of one kind with what is needed to use them.

    Attributes
    ----------
    kind : {"B Jones", "G Jones"}
    gains : Gains
        Shape (ninterval, nantenna, nchan, npol); G has one channel.
    times_s : ndarray, shape (ninterval,)
        Middle of each interval, MJD seconds UTC.
    interval_s : float
    antenna_names : tuple of str
    frequencies_hz : ndarray, shape (nchan,)
    reference_antenna : str
    """

    kind: str
    gains: Gains
    times_s: np.ndarray
    interval_s: float
    antenna_names: tuple[str, ...]
    frequencies_hz: np.ndarray
    reference_antenna: str


@dataclass(frozen=True, eq=False)
class DelayTable:
    """Delays of antennas (CASA's K Jones).

    Attributes
    ----------
    delays_s : ndarray, shape (ninterval, nantenna, 1, npol)
        A gain is ``exp(2 pi i (f - f_0) tau)``, f_0 being the middle of the spectral window
        (CASA's convention, found with its applycal).
    flags : ndarray of bool, same shape
    times_s : ndarray, shape (ninterval,)
        Middle of each interval, MJD seconds UTC.
    interval_s : float
    antenna_names : tuple of str
    reference_hz : float
    reference_antenna : str
    """

    delays_s: np.ndarray
    flags: np.ndarray
    times_s: np.ndarray
    interval_s: float
    antenna_names: tuple[str, ...]
    reference_hz: float
    reference_antenna: str


def write(path: Path, table: CalibrationTable, ms_path: Path) -> None:
    """Write a table; subtables are copied from the Measurement Set it was solved on."""
    gains = table.gains
    amplitude = np.abs(gains.values)
    error = np.divide(amplitude, gains.snr, out=np.zeros(amplitude.shape), where=gains.snr > 0)
    _write(path, table, ms_path, table.kind, gains.values, error, gains.flags, gains.snr)


def write_delays(path: Path, table: DelayTable, ms_path: Path) -> None:
    """Write delays as CASA does, in nanoseconds."""
    nothing = np.zeros(table.delays_s.shape)
    snr = np.where(table.flags, 0.0, 1.0)
    _write(path, table, ms_path, "K Jones", 1e9 * table.delays_s, nothing, table.flags, snr)


def _write(
    path: Path,
    table: CalibrationTable | DelayTable,
    ms_path: Path,
    kind: str,
    values: np.ndarray,
    error: np.ndarray,
    flags: np.ndarray,
    snr: np.ndarray,
) -> None:
    from casacore import tables

    if path.exists():
        raise BadInputError(f"{path}: exists already; a calibration table is never overwritten")
    ninterval, nant, nchan, npol = values.shape
    complex_valued = np.iscomplexobj(values)
    parameter = "CPARAM" if complex_valued else "FPARAM"
    start = 0j if complex_valued else 0.0
    valuetype = "complex" if complex_valued else "float"
    scalar = tables.makescacoldesc
    description = tables.maketabdesc(
        [
            scalar(
                "TIME",
                0.0,
                keywords={"QuantumUnits": ["s"], "MEASINFO": {"type": "epoch", "Ref": "UTC"}},
            ),
            *(
                scalar(name, 0)
                for name in ("FIELD_ID", "SPECTRAL_WINDOW_ID", "ANTENNA1", "ANTENNA2")
            ),
            scalar("INTERVAL", 0.0, keywords={"QuantumUnits": ["s"]}),
            *(scalar(name, 0) for name in ("SCAN_NUMBER", "OBSERVATION_ID")),
            *(
                tables.makearrcoldesc(name, start, ndim=2, valuetype=kind)
                for name, start, kind in (
                    (parameter, start, valuetype),
                    ("PARAMERR", 0.0, "float"),
                    ("FLAG", False, "boolean"),
                    ("SNR", 0.0, "float"),
                    ("WEIGHT", 0.0, "float"),
                )
            ),
        ]
    )
    nrow = ninterval * nant
    reference = table.antenna_names.index(table.reference_antenna)
    with tables.table(str(path), description, nrow=nrow, ack=False) as out:
        out.putcol("TIME", np.repeat(table.times_s, nant))
        out.putcol("INTERVAL", np.full(nrow, table.interval_s))
        out.putcol("ANTENNA1", np.tile(np.arange(nant, dtype=np.int32), ninterval))
        out.putcol("ANTENNA2", np.full(nrow, reference, np.int32))
        for name in ("FIELD_ID", "SPECTRAL_WINDOW_ID", "OBSERVATION_ID"):
            out.putcol(name, np.zeros(nrow, np.int32))
        out.putcol("SCAN_NUMBER", np.ones(nrow, np.int32))
        cells = (nrow, nchan, npol)
        out.putcol(
            parameter, values.reshape(cells).astype(np.complex64 if complex_valued else np.float32)
        )
        out.putcol("FLAG", flags.reshape(cells))
        out.putcol("SNR", snr.reshape(cells).astype(np.float32))
        out.putcol("PARAMERR", error.reshape(cells).astype(np.float32))
        out.putinfo({"type": "Calibration", "subType": kind, "readme": ""})
        out.putkeywords(
            {
                "ParType": "Complex" if complex_valued else "Float",
                "MSName": ms_path.name,
                "VisCal": kind,
                "PolBasis": "unknown",
                "CASA_Version": "6.7.0-31",
            }
        )
        with tables.table(str(ms_path), ack=False) as ms:
            for name in _SUBTABLES:
                with tables.table(ms.getkeyword(name), ack=False) as source:
                    source.copy(str(path / name), deep=True).close()
                out.putkeyword(name, f"Table: {path / name}")
    if nchan == 1:
        _one_channel(path / "SPECTRAL_WINDOW")


def _one_channel(path: Path) -> None:
    """A G table's spectral window has one channel as wide as the band."""
    from casacore import tables

    with tables.table(str(path), readonly=False, ack=False) as window:
        frequencies, widths = window.getcell("CHAN_FREQ", 0), window.getcell("CHAN_WIDTH", 0)
        total = np.array([np.abs(widths).sum()])
        window.putcell("NUM_CHAN", 0, 1)
        window.putcell("CHAN_FREQ", 0, np.array([frequencies.mean()]))
        for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            window.putcell(name, 0, total)


def read(path: Path) -> CalibrationTable:
    """Read a B or G table, CASA's or ours; spectral windows are joined by frequency.

    Raises
    ------
    BadInputError
        If it is no such table.
    """
    content = _read(path, _KINDS, "CPARAM")
    return CalibrationTable(
        kind=content.kind,
        gains=Gains(content.values, content.flags, content.snr),
        times_s=content.times_s,
        interval_s=content.interval_s,
        antenna_names=content.antenna_names,
        frequencies_hz=content.frequencies_hz,
        reference_antenna=content.reference_antenna,
    )


def read_delays(path: Path) -> DelayTable:
    """Read a K table of one spectral window, CASA's or ours.

    Raises
    ------
    BadInputError
        If it is no such table.
    """
    content = _read(path, ("K Jones",), "FPARAM")
    if content.n_windows != 1:
        raise BadInputError(f"{path}: holds delays of {content.n_windows} spectral windows, not 1")
    return DelayTable(
        delays_s=1e-9 * content.values,
        flags=content.flags,
        times_s=content.times_s,
        interval_s=content.interval_s,
        antenna_names=content.antenna_names,
        reference_hz=content.reference_hz,
        reference_antenna=content.reference_antenna,
    )


@dataclass(frozen=True)
class AntennaSummary:
    """Solutions of an antenna that are not flagged, in the median.

    Attributes
    ----------
    name : str
    flagged : float
        Fraction of its solutions.
    amplitude, phase_deg, snr : float
    """

    name: str
    flagged: float
    amplitude: float
    phase_deg: float
    snr: float


@dataclass(frozen=True)
class TableSummary:
    """Content of a B or G table.

    Attributes
    ----------
    path : Path
    kind : str
    n_antennas, n_alive, n_channels : int
        Antennas are alive that are not wholly flagged: stations that were not there are in every
        table of the array.
    reference_antenna : str
    flagged, flagged_alive : float
        Fraction of the whole table, and of the antennas that are alive.
    antennas : tuple of AntennaSummary
    """

    path: Path
    kind: str
    n_antennas: int
    n_alive: int
    n_channels: int
    reference_antenna: str
    flagged: float
    flagged_alive: float
    antennas: tuple[AntennaSummary, ...]


def summary(path: Path) -> TableSummary:
    """Summarize a B or G table.

    Raises
    ------
    BadInputError
        If it is no such table.
    """
    table = read(path)
    flags = table.gains.flags.transpose(1, 0, 2, 3).reshape(len(table.antenna_names), -1)
    alive = ~flags.all(axis=1)
    antennas = []
    for i in np.flatnonzero(alive):
        good = ~table.gains.flags[:, i]
        values, snr = table.gains.values[:, i][good], table.gains.snr[:, i][good]
        antennas.append(
            AntennaSummary(
                name=table.antenna_names[i],
                flagged=float(flags[i].mean()),
                amplitude=float(np.median(np.abs(values))),
                phase_deg=float(np.rad2deg(np.angle(np.mean(values / np.abs(values))))),
                snr=float(np.median(snr)),
            )
        )
    return TableSummary(
        path=path,
        kind=table.kind,
        n_antennas=len(table.antenna_names),
        n_alive=int(alive.sum()),
        n_channels=table.frequencies_hz.size,
        reference_antenna=table.reference_antenna,
        flagged=float(flags.mean()),
        flagged_alive=float(flags[alive].mean()) if alive.any() else 1.0,
        antennas=tuple(antennas),
    )


@dataclass(frozen=True, eq=False)
class _Content:
    """Columns of a table, windows joined: arrays are (ninterval, nantenna, nchan, npol)."""

    kind: str
    values: np.ndarray
    flags: np.ndarray
    snr: np.ndarray
    times_s: np.ndarray
    interval_s: float
    antenna_names: tuple[str, ...]
    frequencies_hz: np.ndarray
    reference_hz: float
    reference_antenna: str
    n_windows: int


def _read(path: Path, kinds: tuple[str, ...], parameter: str) -> _Content:
    from casacore import tables

    if not (path / "table.dat").exists():
        raise BadInputError(f"{path}: is not a calibration table (no table.dat in it)")
    # casacore is not made for several threads, and a server has many.
    with _turn, tables.table(str(path), ack=False) as table:
        kind = table.info()["subType"]
        if kind not in kinds:
            raise BadInputError(f"{path}: holds {kind or 'no'} solutions, not one of {kinds}")
        names = _subtable(table, "ANTENNA").getcol("NAME")
        window = _subtable(table, "SPECTRAL_WINDOW")
        column = {name: table.getcol(name) for name in (*_READ, parameter)}
        windows = np.unique(column["SPECTRAL_WINDOW_ID"])
        frequencies = [np.asarray(window.getcell("CHAN_FREQ", int(w)), float) for w in windows]
        reference_hz = float(np.mean(frequencies[0]))
    nchan = column[parameter].shape[1]
    if nchan == 1:
        # A table of one solution a window may describe all channels of the data.
        frequencies = [f.mean(keepdims=True) for f in frequencies]
    order = np.argsort(np.concatenate(frequencies), kind="stable")
    starts = np.cumsum([0, *(f.size for f in frequencies)])
    # Each window has times of its own (the mean of its unflagged data): intervals are counted, not
    # matched by time.
    members = [np.flatnonzero(column["SPECTRAL_WINDOW_ID"] == w) for w in windows]
    ranks = [np.unique(column["TIME"][rows], return_inverse=True) for rows in members]
    longest = max(ranks, key=lambda rank: rank[0].size)[0]
    shape = (longest.size, len(names), order.size, column[parameter].shape[2])
    values = np.ones(shape, complex if parameter == "CPARAM" else float)
    flags = np.ones(shape, bool)
    snr = np.zeros(shape, np.float32)
    for w, (rows, (_, interval)) in enumerate(zip(members, ranks, strict=True)):
        at = (interval, column["ANTENNA1"][rows], slice(starts[w], starts[w + 1]))
        values[at] = column[parameter][rows]
        flags[at] = column["FLAG"][rows]
        snr[at] = column["SNR"][rows]
    reference = int(np.bincount(np.maximum(column["ANTENNA2"], 0)).argmax())
    return _Content(
        kind=kind,
        values=values[:, :, order],
        flags=flags[:, :, order],
        snr=snr[:, :, order],
        times_s=longest,
        interval_s=float(np.median(column["INTERVAL"])),
        antenna_names=tuple(names),
        frequencies_hz=np.concatenate(frequencies)[order],
        reference_hz=reference_hz,
        reference_antenna=names[reference],
        n_windows=windows.size,
    )


def _subtable(table: Any, name: str) -> Any:
    from casacore import tables

    return tables.table(table.getkeyword(name), ack=False)
