"""Geometry of the drawings: values in, coordinates out; the templates draw them as SVG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dsa110_contimg import times
from dsa110_contimg.calibration.antenna_history import TileAntennas
from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry.calibration_sets import CalibrationSetSummary
from dsa110_contimg.registry.light_curves import EpochFlux
from dsa110_contimg.registry.sources import SourceSummary
from dsa110_contimg.telescope import antenna_order
from dsa110_contimg.web import words


@dataclass(frozen=True)
class Mark:
    """Something at a place.

    Attributes
    ----------
    x, y : float
    tone : str
        Its colour.
    title : str
        What it is, in words.
    href : str
        Where a click leads; empty for nowhere.
    width : float
        Of a box; half the length of an error bar.
    limit : bool
        It is an upper limit.
    """

    x: float
    y: float
    tone: str = "good"
    title: str = ""
    href: str = ""
    width: float = 0.0
    limit: bool = False


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Hour:
    """One row of the strip: an hour of UTC.

    Attributes
    ----------
    utc, lst : str
        When it begins.
    marks : tuple of Mark
        x and width in seconds of the hour.
    """

    utc: str
    lst: str
    marks: tuple[Mark, ...]


def strip(marks: Iterable[tuple[float, Mark]], since: float, until: float) -> list[Hour]:
    """Hours from one moment to another with what falls into each.

    Parameters
    ----------
    marks : iterable of (float, Mark)
        Start (Unix seconds) of each.
    since, until : float
    """
    begins = np.arange(since, until, 3600.0).tolist()
    rows: list[list[Mark]] = [[] for _ in begins]
    for start, mark in marks:
        # One that reaches into the next hour goes on in its row.
        end = start + mark.width
        for row in range(int((start - since) // 3600), int((end - since) // 3600) + 1):
            if 0 <= row < len(rows):
                first = max(start - begins[row], 0.0)
                last = min(end - begins[row], 3600.0)
                rows[row].append(replace(mark, x=first, width=last - first))
    return [
        Hour(times.iso(begin, "%H:%M"), words.lst(begin), tuple(row))
        for begin, row in zip(begins, rows, strict=True)
    ]


@dataclass(frozen=True)
class Chart:
    """Points in a frame of `width` by `height` with ticks on both axes."""

    width: int
    height: int
    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


_LEFT, _BOTTOM, _TOP, _RIGHT = 62, 30, 10, 12


def light_curve(epochs: Sequence[EpochFlux], width: int = 760, height: int = 260) -> Chart | None:
    """Flux density against time with errors; upper limits where nothing is seen."""
    if not epochs:
        return None
    low_t, high_t = epochs[0].observed, epochs[-1].observed
    pad = max(0.03 * (high_t - low_t), 600.0)
    low_t, high_t = low_t - pad, high_t + pad
    tops = [row.upper_limit_jy or row.flux_jy + row.error_jy for row in epochs]
    bottoms = [row.upper_limit_jy or row.flux_jy - row.error_jy for row in epochs]
    margin = max(0.1 * (max(tops) - min(bottoms)), 1e-3 * abs(max(tops)))
    low, high = min(bottoms) - margin, max(tops) + margin
    x = _scale(low_t, high_t, _LEFT, width - _RIGHT)
    y = _scale(low, high, height - _BOTTOM, _TOP)
    marks = []
    for row in epochs:
        limit = row.upper_limit_jy
        state = (
            f"below {words.flux(limit)}"
            if limit
            else (f"{words.flux(row.flux_jy)} ± {words.flux(row.error_jy)}")
        )
        marks.append(
            Mark(
                round(x(row.observed), 1),
                round(y(limit or row.flux_jy), 1),
                "wait" if limit else "busy",
                f"{words.utc(row.observed)} UTC: {state}",
                width=round(abs(y(row.error_jy) - y(0.0)), 1),
                limit=bool(limit),
            )
        )
    return Chart(
        width,
        height,
        tuple(marks),
        tuple(_time_ticks(low_t, high_t, x)),
        tuple(Tick(round(y(v), 1), f"{1e3 * v:g}") for v in _round_steps(low, high)),
    )


def eta_v(rows: Sequence[SourceSummary], width: int = 760, height: int = 420) -> Chart | None:
    """Significance of variability (eta) against its size (V), both logarithmic.

    Rowlinson et al. 2019, Astronomy and Computing 27, 111: what varies is at the upper right.
    """
    shown = [
        (row, row.modulation, row.eta)
        for row in rows
        if row.modulation is not None and row.eta is not None and min(row.modulation, row.eta) > 0
    ]
    if not shown:
        return None
    v = np.log10([modulation for _, modulation, _ in shown])
    eta = np.log10([eta for _, _, eta in shown])
    reach_x = (math.floor(v.min()), max(math.ceil(v.max()), math.floor(v.min()) + 1))
    reach_y = (math.floor(eta.min()), max(math.ceil(eta.max()), math.floor(eta.min()) + 1))
    x = _scale(*reach_x, _LEFT, width - _RIGHT)
    y = _scale(*reach_y, height - _BOTTOM, _TOP)
    marks = tuple(
        Mark(
            round(x(float(a)), 1),
            round(y(float(b)), 1),
            words.tone(row.behaviour),
            f"{row.name}: V {row.modulation:.3g}, eta {row.eta:.3g}, {row.behaviour}",
            f"/sources/{row.id}",
        )
        for a, b, (row, _, _) in zip(v, eta, shown, strict=True)
    )
    return Chart(
        width,
        height,
        marks,
        tuple(Tick(x(k), f"{10.0**k:g}") for k in range(reach_x[0], reach_x[1] + 1)),
        tuple(Tick(y(k), f"{10.0**k:g}") for k in range(reach_y[0], reach_y[1] + 1)),
    )


def validity(sets: Sequence[CalibrationSetSummary], width: int = 760) -> Chart | None:
    """When each calibration set holds: a bar each, the newest on top; bandpass behind gains."""
    if not sets:
        return None
    row_px = 22
    low = min(row.observed for row in sets)
    high = max(row.observed + row.bandpass_valid_s for row in sets)
    x = _scale(low, high, _LEFT, width - _RIGHT)
    marks = []
    for number, row in enumerate(sets):
        y = _TOP + row_px * number
        for kind, valid_s, tone in (
            ("bandpass", row.bandpass_valid_s, "wait"),
            (
                "gains",
                row.gains_valid_s,
                words.tone(row.standing) if row.standing != "normal" else "busy",
            ),
        ):
            until = row.observed + valid_s
            marks.append(
                Mark(
                    round(x(row.observed), 1),
                    y,
                    tone,
                    f"{row.id}, {row.standing}: {kind} until {words.utc(until)} UTC",
                    f"/calibration/{row.id}",
                    round(x(until) - x(row.observed), 1),
                )
            )
    height = _TOP + row_px * len(sets) + _BOTTOM
    return Chart(width, height, tuple(marks), tuple(_time_ticks(low, high, x)), ())


_NO_SOLUTION = ("wait", "no solution or signal", 0.0)
ANTENNA_STEPS: dict[str, tuple[tuple[str, str, float], ...]] = {
    "state": (
        ("busy", "noisy", 0.0),
        ("warn", "changed", 0.0),
        ("bad", "failed", 0.0),
        _NO_SOLUTION,
    ),
    "gain": (("busy", "3 %", 0.03), ("warn", "10 %", 0.1), ("bad", "30 %", 0.3), _NO_SOLUTION),
    "delay": (("busy", "0.1 ns", 0.1), ("warn", "0.3 ns", 0.3), ("bad", "3 ns", 3.0), _NO_SOLUTION),
    "phase": (("busy", "10°", 10.0), ("warn", "30°", 30.0), ("bad", "90°", 90.0), _NO_SOLUTION),
    "noise": (
        ("busy", "1.3 times", 1.3),
        ("warn", "2 times", 2.0),
        ("bad", "4 times", 4.0),
        _NO_SOLUTION,
    ),
}
"""What antennas can be coloured by: each tone, its meaning, and the value from which it counts."""
_STATE_TONES = {
    AntennaState.NOISY: "busy",
    AntennaState.CHANGED: "warn",
    AntennaState.FAILED: "bad",
    AntennaState.UNSOLVED: "wait",
    AntennaState.NO_SIGNAL: "wait",
    AntennaState.STEADY: "",
}
_ANTENNA_PX = 15


def antennas(tiles: Sequence[TileAntennas], by: str, width: int = 760) -> Chart | None:
    """Antennas against tiles: a mark wherever one departs from its reference tile.

    Parameters
    ----------
    tiles : sequence of TileAntennas
        In order of time; a column each.
    by : str
        A key of `ANTENNA_STEPS`.
    width : int
    """
    names = sorted({one.antenna for tile in tiles for one in tile.antennas}, key=antenna_order)
    if not names:
        return None
    rows = {name: i for i, name in enumerate(names)}
    column_px = (width - _LEFT - _RIGHT) / len(tiles)
    marks = tuple(
        Mark(
            round(_LEFT + column * column_px, 1),
            _TOP + _ANTENNA_PX * rows[one.antenna] + 7 * one.polarization,
            tone,
            f"{one.antenna} {'XY'[one.polarization]}, {words.utc(tile.start)} UTC: {one.state}, "
            f"gain x {one.amplitude:.2f}, delay {one.delay_ns:+.2f} ns, phase "
            f"{one.phase_deg:+.0f}°, noise variance x {one.noise:.2f}",
            f"/tiles/{tile.tile_id}",
            round(column_px, 1),
        )
        for column, tile in enumerate(tiles)
        for one in tile.antennas
        if (tone := _antenna_tone(one, by))
    )
    every = max(1, len(tiles) // 6)
    return Chart(
        width,
        _TOP + _ANTENNA_PX * len(rows) + _BOTTOM,
        marks,
        tuple(
            Tick(round(_LEFT + i * column_px, 1), words.utc(tiles[i].start, "%H:%M"))
            for i in range(0, len(tiles), every)
        ),
        tuple(Tick(_TOP + _ANTENNA_PX * row + 6.5, name) for name, row in rows.items()),
    )


def _antenna_tone(one: AntennaHealth, by: str) -> str:
    """Colour of one polarization of an antenna; empty where it is as it was."""
    tone = _STATE_TONES[one.state]
    if by == "state" or tone == "wait":
        return tone
    if one.state is AntennaState.FAILED:
        return "wait"
    value = {
        "gain": abs(one.amplitude - 1),
        "delay": abs(one.delay_ns),
        "phase": abs(one.phase_deg),
        "noise": one.noise,
    }[by]
    reached = [step for step, _, limit in ANTENNA_STEPS[by] if 0 < limit <= value]
    return reached[-1] if reached else ""


def _scale(low: float, high: float, first: float, last: float) -> Any:
    """Map a range onto pixels."""
    reach = (high - low) or 1.0
    return lambda value: first + (value - low) / reach * (last - first)


def _round_steps(low: float, high: float, about: int = 5) -> list[float]:
    """Round values within a range."""
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


_SPANS = (60, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 604800, 2592000, 31536000)


def _time_ticks(low: float, high: float, x: Any, about: int = 4) -> list[Tick]:
    """Labels at round times; days are named where steps are that long."""
    step = next((s for s in _SPANS if (high - low) / s <= about), _SPANS[-1])
    form = "%Y-%m-%d %H:%M" if step < DAY_S else "%Y-%m-%d"
    first = math.ceil(low / step) * step
    return [Tick(round(x(t), 1), times.iso(t, form)) for t in np.arange(first, high, step).tolist()]
