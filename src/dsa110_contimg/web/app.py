"""Puts the dashboard beside the REST interface."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles

from dsa110_contimg.settings import origins
from dsa110_contimg.web import (
    antennas,
    calibration,
    jobs,
    live,
    mosaics,
    nights,
    overview,
    session,
    sources,
)
from dsa110_contimg.web.site import STATIC

_SLOW_TO_LOAD = (
    "dsa110_contimg.reports.tile",
    "dsa110_contimg.stages.publishing",
    "dsa110_contimg.operations.sky_survey",
)


def add_dashboard(app: FastAPI) -> None:
    """Add all pages to an application that `api.app.create_app` made."""
    app.state.watch = live.Watch(app.state.registry)
    app.state.at_end.insert(0, app.state.watch.close)
    app.state.slow_to_load += _SLOW_TO_LOAD
    app.state.origins = origins(app.state.settings)
    for part in (overview, nights, mosaics, sources, calibration, antennas, jobs, live, session):
        app.include_router(part.router)
    app.mount("/static", _Files(directory=STATIC), name="static")


class _Files(StaticFiles):
    """Our own files: browsers keep them, and ask whether they are still the same."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Answer with a file."""
        answer = super().file_response(*args, **options)
        answer.headers["cache-control"] = "no-cache"
        return answer
