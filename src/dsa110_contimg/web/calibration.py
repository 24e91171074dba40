"""Calibration sets: validity, solutions of every antenna, what operators think of them."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Depends, HTTPException, Request, Response

from dsa110_contimg.api.products import Name
from dsa110_contimg.api.security import may_read, may_write
from dsa110_contimg.errors import ContimgError, UsageError
from dsa110_contimg.registry.calibration_sets import (
    CalibrationSetDetail,
    get_calibration_set,
    list_calibration_sets,
    set_standing,
)
from dsa110_contimg.registry.mosaics import mosaics_of_set
from dsa110_contimg.registry.tiles import dead_antennas
from dsa110_contimg.telescope import antenna_order
from dsa110_contimg.web import charts
from dsa110_contimg.web.assets import KEEP, picture
from dsa110_contimg.web.site import Form, needed, page, page_router, to

if TYPE_CHECKING:
    from dsa110_contimg.calibration.tables import TableSummary

router = page_router(dependencies=[Depends(may_read)])
_SHOWN = 40
_COMPARED = 12
_TABLES = ("bandpass.b", "gains.g")
_STANDINGS = {"reject": "rejected", "prefer": "preferred", "accept": "normal"}


@router.get("/calibration")
def sets(request: Request) -> Response:
    """The newest sets with their validity."""
    state = request.app.state
    found = list_calibration_sets(state.registry, _SHOWN)[::-1]
    return page(
        request,
        "calibration.html",
        title="Calibration",
        sets=found,
        chart=charts.validity(found),
        dead=dead_antennas(state.registry),
    )


@router.get("/calibration/antenna-flags")
def antenna_flags(request: Request) -> Response:
    """Flagged fraction of each antenna's bandpass in the newest sets."""
    found = list_calibration_sets(request.app.state.registry, _COMPARED)
    columns, values = [], dict[str, dict[str, float]]()
    for row in found:
        tables = _tables(row.path)
        if not tables:
            continue
        columns.append(row)
        for antenna in tables[0].antennas:
            values.setdefault(antenna.name, {})[row.id] = antenna.flagged
    rows = sorted(values.items(), key=lambda item: antenna_order(item[0]))
    return page(request, "antenna_flags.html", columns=columns, rows=rows)


@router.get("/calibration/{set_id}")
def one(set_id: Name, request: Request) -> Response:
    """What the tables of a set hold."""
    found = _set(request, set_id)
    return page(
        request,
        "calibration_set.html",
        title=f"Calibration set {set_id}",
        set=found,
        mosaics=mosaics_of_set(request.app.state.registry, set_id),
        tables=_tables(found.path),
    )


@router.get("/calibration/{set_id}/{table}.png")
def plot(set_id: Name, table: Name, request: Request) -> Response:
    """Amplitude and phase of every antenna, a panel each."""
    path = _set(request, set_id).path / table
    if table not in _TABLES or not path.is_dir():
        raise HTTPException(404, f"{set_id} has no table {table}")
    return Response(picture(path, "gains", _gains), media_type="image/png", headers=KEEP)


def _gains(path: Path) -> bytes:
    from dsa110_contimg.calibration import tables
    from dsa110_contimg.quality import plots

    read = tables.read(path)
    return plots.antenna_gains(
        read.frequencies_hz,
        read.gains.values[0],
        read.gains.flags[0],
        read.antenna_names,
        f"{path.parent.name}: {path.name}",
    )


@router.post("/calibration/{set_id}", dependencies=[Depends(may_write)])
def judge(set_id: Name, request: Request, given: Form) -> Response:
    """Reject a set, prefer it, or take either back."""
    action = needed(given, "action")
    if action not in _STANDINGS:
        raise UsageError(f"no action {action!r}")
    reason = "" if action == "accept" else needed(given, "reason")
    set_standing(request.app.state.registry, set_id, _STANDINGS[action], reason)
    return to(f"/calibration/{set_id}")


def _set(request: Request, set_id: str) -> CalibrationSetDetail:
    return get_calibration_set(request.app.state.registry, set_id)


def _tables(folder: Path) -> list["TableSummary"]:
    """Summaries of a set's tables, bandpass first; none of what is gone."""
    found = []
    for name in _TABLES:
        path = folder / name
        try:
            found.append(_summary(path, path.stat().st_mtime_ns))
        except (OSError, ContimgError):
            continue
    return found


@lru_cache(maxsize=256)
def _summary(path: Path, _mtime_ns: int) -> "TableSummary":
    from dsa110_contimg.calibration import tables

    return tables.summary(path)
