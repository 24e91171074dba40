"""Puts the dashboard beside the REST interface."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

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
from dsa110_contimg.web.site import STATIC, refusal

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

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "")
        if wants_page and not request.url.path.startswith("/api/"):
            reason = f"There is no page {request.url.path}"
            known = error.status_code != 404 or error.detail != "Not Found"
            return refusal(request, error.status_code, str(error.detail) if known else reason)
        return await http_exception_handler(request, error)

    app.mount("/static", _Files(directory=STATIC), name="static")


class _Files(StaticFiles):
    """Our own files: browsers keep them, and ask whether they are still the same."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Answer with a file."""
        answer = super().file_response(*args, **options)
        answer.headers["cache-control"] = "no-cache"
        return answer
