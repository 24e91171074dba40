"""Who may do what.

Without a token: whoever sits at this machine, while the server listens to it alone. With one: what
its scope says, from anywhere the server can be reached.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from dsa110_contimg.registry import tokens
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.tokens import Scope

LOOPBACK = ("127.0.0.1", "::1", "localhost")
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
            known = kind.lower() == "bearer"
            scope = tokens.scope_of(self.registry, token.strip()) if known else None
            if scope is None:
                raise _unauthorized("the token is wrong or was revoked")
            if needed is Scope.WRITE and scope is not Scope.WRITE:
                raise HTTPException(403, "the token may only read")
            return
        if self.token_needed:
            raise _unauthorized("a token is needed: 'dsa110-contimg token create'")
        if not _is_local(request):
            raise HTTPException(403, "without a token only requests from this machine are answered")


def _unauthorized(reason: str) -> HTTPException:
    return HTTPException(401, reason, {"WWW-Authenticate": "Bearer"})


def _is_local(request: Request) -> bool:
    """False for a request that came through a proxy, another host's name or another site's page."""
    host = (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").lower()
    origin = request.headers.get("origin")
    origin_host = (urlsplit(origin).hostname or "").lower() if origin is not None else host
    forwarded = any(name in request.headers for name in _FORWARDING)
    client = request.client.host if request.client else ""
    return host in LOOPBACK and origin_host in LOOPBACK and client in LOOPBACK and not forwarded


def may_read(request: Request) -> None:
    """Dependency of everything that only tells."""
    request.app.state.guard.check(request, Scope.READ)


def may_write(request: Request) -> None:
    """Dependency of everything that changes something."""
    request.app.state.guard.check(request, Scope.WRITE)
