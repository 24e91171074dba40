"""Who may do what.

Without a token: whoever sits at this machine, while the server listens to it alone. With one: what
its scope says, from anywhere the server can be reached. Programs send it as a header; a browser
keeps it as a cookie that scripts cannot read and that other sites' pages do not send.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from dsa110_contimg.registry import tokens
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.tokens import Scope

LOOPBACK = ("127.0.0.1", "::1", "localhost")
COOKIE = "contimg_token"
_FORWARDING = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True)
class Guard:
    """Lets requests in.

    Attributes
    ----------
    registry : Registry
        Holds the tokens.
    token_needed : bool
        Also of those who sit at this machine.
    """

    registry: Registry
    token_needed: bool

    def check(self, request: Request, needed: Scope) -> None:
        """Let a request in.

        Raises
        ------
        HTTPException
            401 for want of a token, 403 if the one there is allows less or the request is not
            local.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if token or kind:
            if kind.lower() != "bearer" or not self._allows(token.strip(), needed):
                raise _unauthorized("the token is wrong or was revoked")
            return
        # From here on it may be a browser, made to ask by another site's page.
        if needed is Scope.WRITE and not is_of_this_site(request):
            raise HTTPException(403, "the request comes from another site's page")
        kept = request.cookies.get(COOKIE)
        if kept is not None and self._allows(kept, needed):
            return
        if self.token_needed:
            raise _unauthorized("a token is needed: 'dsa110-contimg token create'")
        if not _is_local(request):
            raise HTTPException(
                403,
                "without a token only requests from this machine are answered",
                {"x-token": "needed"},
            )

    def _allows(self, token: str, needed: Scope) -> bool:
        """True if a token is in force and its scope suffices.

        Raises
        ------
        HTTPException
            403 if it may only read.
        """
        scope = tokens.scope_of(self.registry, token)
        if scope is not None and needed is Scope.WRITE and scope is not Scope.WRITE:
            raise HTTPException(403, "the token may only read")
        return scope is not None


def _unauthorized(reason: str) -> HTTPException:
    return HTTPException(401, reason, {"WWW-Authenticate": "Bearer"})


def _host(address: str) -> str:
    """Host of an address; empty if it is none."""
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def _is_local(request: Request) -> bool:
    """False for a request that came through a proxy, another host's name or another site's page."""
    host = _host(f"//{request.headers.get('host', '')}")
    origin = request.headers.get("origin")
    origin_host = _host(origin) if origin is not None else host
    forwarded = any(name in request.headers for name in _FORWARDING)
    client = request.client.host if request.client else ""
    return host in LOOPBACK and origin_host in LOOPBACK and client in LOOPBACK and not forwarded


def is_of_this_site(request: Request) -> bool:
    """False for what another site's page made a browser send; other programs say nothing of it."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "").lower()
    if origin is not None and origin.lower().rpartition("//")[2] != host:
        return False
    return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def may_read(request: Request) -> None:
    """Dependency of everything that only tells."""
    request.app.state.guard.check(request, Scope.READ)


def may_write(request: Request) -> None:
    """Dependency of everything that changes something."""
    request.app.state.guard.check(request, Scope.WRITE)
