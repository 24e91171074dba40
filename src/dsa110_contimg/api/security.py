"""Who may write: without tokens, only a caller on this machine that meant to."""

from urllib.parse import urlsplit

from fastapi import HTTPException, Request

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def require_local(request: Request) -> None:
    """Refuse a request that came through a proxy, another host's name or another site's page.

    Raises
    ------
    HTTPException
        403.
    """
    host = (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").lower()
    origin = request.headers.get("origin")
    origin_host = (urlsplit(origin).hostname or "").lower() if origin else host
    forwarded = any(name in request.headers for name in _FORWARDING)
    client = request.client.host if request.client else ""
    if host not in LOOPBACK or origin_host not in LOOPBACK or client not in LOOPBACK or forwarded:
        raise HTTPException(403, "only requests from this machine may change anything")
