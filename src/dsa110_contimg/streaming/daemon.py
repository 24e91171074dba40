"""The reconcile loop: look, derive what should happen next, do it, wait for an event or the clock.

A daemon keeps no state of its own: whatever it knows it can read again, so a kill at any moment
loses nothing and starting it twice does no harm.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import structlog

from dsa110_contimg.errors import ContimgError

log = structlog.get_logger()


def owner_name() -> str:
    """Who this process is, for claims."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}"


class Stop:
    """A request to stop, by signal or by hand; anything that waits wakes at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wake = threading.Event()

    def install(self) -> None:
        """Stop on Ctrl-C and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.set()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()
        self._wake.set()

    def wake(self) -> None:
        """End the current wait, because something happened."""
        self._wake.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for a wake, a stop or the time."""
        self._wake.wait(seconds)
        self._wake.clear()


def run(cycle: Callable[[], bool], stop: Stop, interval_s: float, once: bool) -> None:
    """Run cycles until asked to stop, or with `once` until there is nothing left to do.

    Parameters
    ----------
    cycle : callable
        One pass; returns True while work is in flight or waiting.
    stop : Stop
    interval_s : float
        Between cycles, unless something wakes the loop.
    once : bool
        An error of a cycle is then raised; a daemon logs it and tries again in the next cycle.
    """
    if once:
        while not stop and cycle():
            stop.wait(min(interval_s, 0.5))
        return
    while not stop:
        try:
            cycle()
        except ContimgError as error:
            log.error("cycle failed; next try in the next cycle", error=str(error))
        except Exception:
            log.exception("cycle failed; next try in the next cycle")
        stop.wait(interval_s)
