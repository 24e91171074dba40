"""The application: routes, errors, and the job runner's life."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from dsa110_contimg import __version__
from dsa110_contimg.api import jobs, metrics, products
from dsa110_contimg.batch.jobs import JobRunner
from dsa110_contimg.errors import PermanentError, RetryableError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(settings: Settings, parallel_jobs: int = 1) -> FastAPI:
    """The REST interface of one root.

    Parameters
    ----------
    settings : Settings
    parallel_jobs : int
        Jobs at once.
    """
    registry = Registry(settings.database)
    runner = JobRunner(registry, settings, parallel_jobs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runner.start()
        yield
        runner.stop()
        registry.close()

    app = FastAPI(title="dsa110-contimg", version=__version__, lifespan=lifespan)
    app.state.settings = settings
    app.state.registry = registry
    app.state.runner = runner
    app.include_router(jobs.router)
    app.include_router(products.router)
    app.include_router(metrics.router)

    @app.middleware("http")
    async def secure(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(PermanentError)
    async def refused(_: Request, error: PermanentError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(RetryableError)
    async def busy(_: Request, error: RetryableError) -> JSONResponse:
        return JSONResponse({"detail": "busy; try again"}, 503)

    return app
