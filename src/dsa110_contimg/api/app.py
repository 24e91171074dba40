"""The application: routes, errors, and the job runner's life."""

import gc
import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from dsa110_contimg import __version__
from dsa110_contimg.api import jobs, metrics, products
from dsa110_contimg.api.limits import Limits
from dsa110_contimg.api.problems import PROBLEMS, request_problems
from dsa110_contimg.api.security import Guard
from dsa110_contimg.batch.jobs import JobRunner
from dsa110_contimg.errors import ConflictError, PermanentError, RetryableError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings
from dsa110_contimg.sky.astrometry import orientation_table_end

_SLOW_TO_LOAD = ("astropy.io.fits", "astropy.wcs", "matplotlib", "PIL.Image")


def create_app(settings: Settings, parallel_jobs: int = 1, require_token: bool = False) -> FastAPI:
    """The REST interface of one root.

    Parameters
    ----------
    settings : Settings
    parallel_jobs : int
        Jobs at once.
    require_token : bool
        Also of requests from this machine.
    """
    registry = Registry.of(settings)
    runner = JobRunner(registry, settings, parallel_jobs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(
            target=_load_libraries, args=(app.state.slow_to_load,), name="libraries", daemon=True
        ).start()
        runner.start()
        yield
        runner.stop()
        for close in app.state.at_end:
            close()

    app = FastAPI(
        title="dsa110-contimg",
        version=__version__,
        lifespan=lifespan,
        responses=PROBLEMS,
        # Those pages come from elsewhere; the dashboard has its own.
        docs_url=None,
        redoc_url=None,
        # Told to those who may read: `products.description`.
        openapi_url=None,
        description="Continuum images of the DSA-110: what there is, and batch jobs.",
    )
    app.state.settings = settings
    app.state.registry = registry
    app.state.runner = runner
    app.state.guard = Guard(registry, require_token)
    app.state.at_end = [registry.close]
    app.state.slow_to_load = list(_SLOW_TO_LOAD)
    app.add_middleware(
        Limits,
        max_body_bytes=int(settings.api_max_body_mb * 1e6),
        requests_per_s=settings.api_requests_per_s,
    )
    app.include_router(jobs.router)
    app.include_router(products.router)
    app.include_router(products.description)
    app.include_router(metrics.router)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": request_problems(error)}, 422)

    @app.exception_handler(ConflictError)
    async def clashes(_: Request, error: ConflictError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(PermanentError)
    async def refused(_: Request, error: PermanentError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(RetryableError)
    async def busy(_: Request, error: RetryableError) -> JSONResponse:
        return JSONResponse({"detail": "busy; try again"}, 503)

    return app


def _load_libraries(names: list[str]) -> None:
    """What would keep the first who ask waiting, all of them at once."""
    orientation_table_end()
    for name in names:
        importlib.import_module(name)
    # Libraries never become garbage, and to look through all of them stops every answer for 0.2 s.
    gc.collect()
    gc.freeze()
