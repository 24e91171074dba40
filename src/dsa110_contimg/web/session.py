"""A token is shown once and becomes a cookie that no script can read."""

from typing import Annotated

from fastapi import Query, Request, Response

from dsa110_contimg.api.security import COOKIE, is_of_this_site
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.registry import tokens
from dsa110_contimg.web.site import Form, page, page_router, to

router = page_router()
_KEEP_S = int(30 * DAY_S)
Next = Annotated[str, Query(alias="next", max_length=2048)]


def _inside(address: str) -> str:
    """An address within this site, whatever was given: nobody is sent elsewhere."""
    inside = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if inside and address.isprintable() else "/"


@router.get("/login")
def login(request: Request, target: Next = "/") -> Response:
    """Ask for a token."""
    return page(request, "login.html", title="Token", target=_inside(target), error="")


@router.post("/login")
def enter(request: Request, given: Form, target: Next = "/") -> Response:
    """Check the token and keep it in the browser."""
    token = given.get("token", "")
    error = ""
    if not is_of_this_site(request):
        error = "The form comes from another address; a proxy must pass the Host header through."
    elif tokens.scope_of(request.app.state.registry, token) is None:
        error = "The token is wrong or was revoked."
    if error:
        return page(request, "login.html", 401, title="Token", target=_inside(target), error=error)
    answer = to(_inside(target))
    answer.set_cookie(
        COOKIE,
        token,
        max_age=_KEEP_S,
        httponly=True,
        samesite="strict",
        secure=request.headers.get("origin", "").startswith("https:"),
    )
    return answer


@router.post("/logout")
def leave(request: Request) -> Response:
    """Forget the token in this browser."""
    answer = to("/login")
    if is_of_this_site(request):
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
