"""Is data flowing, does the work keep up, is the machine well: the pages Now and Health."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from dsa110_contimg import software
from dsa110_contimg.api.security import may_read
from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.care import revision
from dsa110_contimg.registry.database import shown_url
from dsa110_contimg.registry.events import list_events
from dsa110_contimg.registry.mosaics import list_mosaics
from dsa110_contimg.registry.states import MosaicState
from dsa110_contimg.registry.status import at_work, troubles
from dsa110_contimg.settings import Settings, values
from dsa110_contimg.streaming.health import Health, health
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.times import span
from dsa110_contimg.web.site import page, page_router

router = page_router(dependencies=[Depends(may_read)])
_PATIENCE_S, _FRESH_S = 60.0, 10.0
_consultation = threading.Lock()


@router.get("/")
def now(request: Request) -> Response:
    """Readable from across the room."""
    registry, settings = request.app.state.registry, request.app.state.settings
    view = health(registry, settings)
    newest = next(iter(list_mosaics(registry, 1, state=MosaicState.PUBLISHED)), None)
    return page(
        request,
        "now.html",
        title="Now",
        view=view,
        figures=_figures(view, settings),
        work=at_work(registry),
        troubles=troubles(registry),
        events_rows=list_events(registry, limit=12),
        newest=newest,
    )


def _figures(view: Health, settings: Settings) -> list[dict[str, str]]:
    """The large figures: what each is, its value, and a word on it."""
    flow = view.pulse
    tile_s = DSA110.tile_length_s
    age = flow.data_age_s
    if age is None:
        data = ("–", "wait", "no data yet")
    else:
        word = _grade(age, settings.max_gap_s, 4 * settings.max_gap_s)
        data = (span(age), word, {"good": "flowing", "warn": "late"}.get(word, "not flowing"))
    group_s = settings.group_size * tile_s
    behind = _grade(flow.lag_s, 1.5 * group_s, 4 * group_s)
    disk_gb = flow.disk_free_gb
    disk = _grade(-disk_gb, -settings.disk_resume_gb, -settings.disk_stop_gb)
    failing = "good" if not flow.failing else "warn"
    alerts = len(view.alerts)
    rows = [
        ("Newest data", data[0], data[1], data[2]),
        (
            "Behind the sky",
            span(flow.lag_s),
            behind,
            {"good": "keeping up", "warn": "behind"}.get(behind, "far behind"),
        ),
        ("Failed or held", str(flow.failing), failing, "look below" if flow.failing else "none"),
        ("Tiles, last hour", str(flow.tiles_last_hour), "wait", f"{flow.tiles_last_day} in a day"),
        (
            "Mosaics, last day",
            str(flow.mosaics_last_day),
            "wait",
            f"{flow.mosaics_last_hour} in the last hour",
        ),
        (
            "Disk free",
            f"{disk_gb:.0f} GB",
            disk,
            {"good": "enough", "warn": "little"}.get(disk, "work waits"),
        ),
        ("Alerts", str(alerts), "bad" if alerts else "good", "none" if not alerts else "see below"),
    ]
    return [dict(zip(("name", "value", "tone", "word"), row, strict=True)) for row in rows]


def _grade(value: float, well: float, poor: float) -> str:
    return "good" if value <= well else "warn" if value <= poor else "bad"


@router.get("/health")
def machine(request: Request) -> Response:
    """Versions, settings and where each comes from, database, executor."""
    registry, settings = request.app.state.registry, request.app.state.settings
    address = shown_url(registry.url)
    return page(
        request,
        "health.html",
        title="Health",
        versions=software.versions(),
        processor=software.processor(),
        database={"address": address, "schema": revision(registry)},
        values=_shown(settings) | {"database_url": address},
        origins=request.app.state.origins,
        work=at_work(registry),
        warnings=list_events(registry, "warning", 20),
    )


@router.get("/docs")
def rest(request: Request) -> Response:
    """What REST answers, from its own description."""
    described = request.app.openapi()
    routes = [
        {"method": method.upper(), "path": path, **description}
        for path, methods in described["paths"].items()
        for method, description in methods.items()
    ]
    return page(request, "rest.html", title="REST", routes=routes)


def _shown(settings: Settings) -> JsonObject:
    """Values without what is secret in addresses."""
    rules = [
        rule.model_copy(
            update={
                "webhook": _without_path(rule.webhook),
                "command": [*rule.command[:1], *("…" for _ in rule.command[1:])],
            }
        )
        for rule in settings.alerts
    ]
    executor = settings.executor
    queues = {"slurm": executor.slurm, "pbs": executor.pbs}
    hidden = {kind: given and dict.fromkeys(given, "…") for kind, given in queues.items()}
    return values(settings) | {
        "alerts": [rule.model_dump(mode="json") for rule in rules],
        "executor": executor.model_copy(update=hidden).model_dump(mode="json"),
    }


def _without_path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}/…" if address else ""


@router.get("/health/doctor")
def doctor(request: Request) -> Response:
    """What the doctor found, in a process of its own: it loads every library there is."""
    # One examination at a time; who comes meanwhile sees what the last one found.
    if _consultation.acquire(blocking=False):
        try:
            if time.monotonic() - _found.at > _FRESH_S:
                _found.checks = _examine(request.app.state.settings)
                _found.at = time.monotonic()
        finally:
            _consultation.release()
    return page(request, "doctor.html", checks=_found.checks)


@dataclass
class _Examination:
    """The last one."""

    checks: list[dict[str, str]]
    at: float


_found = _Examination(
    [{"what": "doctor", "verdict": "warning", "why": "is at it; look again soon"}], -math.inf
)


def _examine(settings: Settings) -> list[dict[str, str]]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dsa110_contimg.cli.main", "doctor", "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
            stdin=subprocess.DEVNULL,
            env=os.environ
            | {"CONTIMG_ROOT": str(settings.root), "CONTIMG_DATABASE_URL": settings.database_url},
        )
        checks: list[dict[str, str]] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        why = f"did not answer within {_PATIENCE_S:.0f} s"
        return [{"what": "doctor", "verdict": "failed", "why": why}]
    except ValueError:
        return [{"what": "doctor", "verdict": "failed", "why": "printed nothing; run it by hand"}]
    return checks
