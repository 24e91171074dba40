"""Tells open pages that something has changed, so that they ask for themselves again."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse

from dsa110_contimg.api.security import may_read
from dsa110_contimg.errors import OutageError
from dsa110_contimg.registry.changes import Changes
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.web.site import page_router

router = page_router(dependencies=[Depends(may_read)])
_LOOK_S = 0.5
_SIGN_OF_LIFE_S = 15.0


class Watch:
    """One look at the database for all pages that are open, and none while there are none.

    Parameters
    ----------
    registry : Registry
    """

    def __init__(self, registry: Registry):
        self._changes = Changes(registry)
        self._lock = threading.Lock()
        self._looked = 0.0
        self._mark = ""

    def mark(self) -> str:
        """What the last look gave, at most half a second old."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_S:
                try:
                    self._mark = self._changes.mark()
                except OutageError:
                    self._mark = "away"
                self._looked = time.monotonic()
            return self._mark

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._changes.close()


@router.get("/live")
def live(request: Request) -> StreamingResponse:
    """Server-sent events: `change` after every change."""
    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(
        _changes(request, request.app.state.watch), media_type="text/event-stream", headers=headers
    )


async def _changes(request: Request, watch: Watch) -> AsyncIterator[str]:
    seen = await asyncio.to_thread(watch.mark)
    said = time.monotonic()
    yield "retry: 2000\n\n"
    while not await request.is_disconnected():
        await asyncio.sleep(_LOOK_S)
        found = await asyncio.to_thread(watch.mark)
        if found != seen:
            seen, said = found, time.monotonic()
            yield "event: change\ndata: \n\n"
        elif time.monotonic() - said > _SIGN_OF_LIFE_S:
            said = time.monotonic()
            yield ": still here\n\n"
