"""Limits on what a caller may ask for: size of the body, requests a second; and headers of answers.

Plain ASGI: what every request passes must cost next to nothing.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CALLERS_KEPT = 10_000
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Limits:
    """Wraps an application.

    Parameters
    ----------
    app : callable
    max_body_bytes : int
        A larger one is answered with 413, before it was read.
    requests_per_s : float
        Of one address, in the long run; twice as many seconds' worth at once. More is answered
        with 429.
    """

    def __init__(self, app: App, max_body_bytes: int, requests_per_s: float):
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._rate = requests_per_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = _with_headers(send)
        if not self._may_ask(scope):
            await _refuse(sent, 429, b"too many requests; ask less often", (b"retry-after", b"1"))
            return
        length = _declared_length(scope)
        if length is None or length > self._max_body_bytes:
            what = b"the body is too large" if length is not None else b"malformed content-length"
            await _refuse(sent, 413 if length is not None else 400, what)
            return
        await self._app(scope, self._limited(receive), sent)

    def _may_ask(self, scope: Scope) -> bool:
        client = scope.get("client")
        caller = client[0] if client else ""
        now, most = time.monotonic(), 2 * self._rate
        tokens, before = self._buckets.pop(caller, (most, now))
        tokens = min(most, tokens + (now - before) * self._rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - allowed, now)
        if len(self._buckets) > _CALLERS_KEPT:
            self._buckets.popitem(last=False)
        return allowed

    def _limited(self, receive: Receive) -> Receive:
        """Ends a body that is longer than was said."""
        read = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body_bytes:
                return {"type": "http.disconnect"}
            return message

        return limited


def _declared_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 19 else None
    return 0


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(pair for pair in _HEADERS if pair[0] not in given),
            ]
        await send(message)

    return sent


async def _refuse(send: Send, status: int, detail: bytes, *headers: tuple[bytes, bytes]) -> None:
    body = b'{"detail":"' + detail + b'"}'
    fixed = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})
