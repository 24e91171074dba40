"""What all pages share: how they are rendered, answered and refused."""

from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from dsa110_contimg import __version__
from dsa110_contimg.api.problems import request_problems
from dsa110_contimg.api.security import COOKIE
from dsa110_contimg.errors import ContimgError, RetryableError, UsageError
from dsa110_contimg.web import words

STATIC = Path(__file__).parent / "static"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# Aladin Lite is WebAssembly with styles of its own, and works on pictures it made itself.
_SKY_POLICY = (
    _POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("connect-src 'self'", "connect-src 'self' data: blob:")
    + "; worker-src 'self' blob:; font-src 'self' data:"
)
NAVIGATION = (
    ("/", "Now"),
    ("/night", "Night"),
    ("/mosaics", "Mosaics"),
    ("/sources", "Sources"),
    ("/calibration", "Calibration"),
    ("/antennas", "Antennas"),
    ("/jobs", "Jobs"),
    ("/health", "Health"),
)


_REFUSALS = {401: "A token is needed", 404: "Not found", 503: "Busy"}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dsa110_contimg.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    environment.globals |= {"navigation": NAVIGATION, "version": __version__}
    return environment


def page(
    request: Request, template: str, status_code: int = 200, sky: bool = False, **values: object
) -> HTMLResponse:
    """A page for a browser.

    Parameters
    ----------
    request : Request
    template : str
    status_code : int
    sky : bool
        The page shows the sky with Aladin Lite.
    **values
        What the template shows; every text is escaped.
    """
    content = (
        _environment()
        .get_template(template)
        .render(path=request.url.path, signed_in=COOKIE in request.cookies, **values)
    )
    headers = {
        "content-security-policy": _SKY_POLICY if sky else _POLICY,
        # Without a referrer browsers would not say either that a form is of our own page.
        "referrer-policy": "same-origin",
    }
    return HTMLResponse(content, status_code, headers)


def _here(request: Request) -> str:
    """The address of this page within the site."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}"


class PageRoute(APIRoute):
    """A route that people ask with a browser: what goes wrong is a page too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        """Answer, or say in words why not."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except HTTPException as error:
                wants_page = "text/html" in request.headers.get("accept", "")
                asks_token = error.status_code == 401 or "x-token" in (error.headers or {})
                if asks_token and request.method == "GET" and wants_page:
                    return to(f"/login?next={quote(_here(request), safe='')}")
                return refusal(request, error.status_code, str(error.detail))
            except RequestValidationError as error:
                return refusal(request, 422, request_problems(error))
            except RetryableError as error:
                return refusal(request, 503, str(error))
            except ContimgError as error:
                missing = request.method == "GET"
                return refusal(request, 404 if missing else 422, str(error))

        return handler


def refusal(request: Request, status: int, reason: str) -> HTMLResponse:
    """A page that says why there is no other."""
    title = _REFUSALS.get(status, "The request was refused")
    return page(request, "refusal.html", status, title=title, reason=reason)


def to(address: str) -> RedirectResponse:
    """Send the browser to another page, which it asks for with GET."""
    return RedirectResponse(address, 303)


def none_if_empty(text: object) -> object:
    """None for a field of a form that was left empty."""
    return None if text == "" else text


async def form(request: Request) -> dict[str, str]:
    """What a form was filled with; fields that were left empty are absent."""
    body = (await request.body()).decode(errors="replace")
    return {name: value.strip() for name, value in parse_qsl(body) if value.strip()}


Form = Annotated[dict[str, str], Depends(form)]


def needed(given: Mapping[str, str], name: str) -> str:
    """A field that must be filled.

    Raises
    ------
    UsageError
        If it is not.
    """
    if name not in given:
        raise UsageError(f"fill in: {name}")
    return given[name]


def page_router(**options: Any) -> APIRouter:
    """A router whose routes are pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False, **options)
