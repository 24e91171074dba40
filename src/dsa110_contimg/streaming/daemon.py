"""The reconcile loop: look, derive what should happen next, do it, wait for an event or the clock.

A daemon keeps no state of its own: whatever it knows it can read again, so a kill at any moment
loses nothing and starting it twice does no harm.
"""

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import structlog

from dsa110_contimg.errors import ContimgError, OutageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming.notify import notify

log = structlog.get_logger()

_DATABASE_WAIT_S = 2.0


def owner_name() -> str:
    """Who this process is, for claims."""
    return f"{_host()}:{os.getpid()}"


def _host() -> str:
    return socket.gethostname()[:40]


def is_dead(owner: str) -> bool:
    """True if an owner was a process of this machine that is gone.

    Asked before this process owns anything, so that its own name is that of one before it.
    """
    host, _, pid = owner.rpartition(":")
    if host != _host() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Stop:
    """A request to stop, by signal or by hand; anything that waits wakes at once.

    Waiting is on a pipe, which the signal itself writes to: a lock could be held by the code that
    a signal interrupts, and a signal that reaches another thread would not end a wait on one.
    """

    def __init__(self) -> None:
        self._asked = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._bell: socket.socket | None = None

    def install(self) -> None:
        """Stop on Ctrl-C and SIGTERM."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.set()

    def set(self) -> None:
        """Ask to stop."""
        self._asked = True
        self.wake()

    def wake(self) -> None:
        """End the current wait, because something happened."""
        # A full pipe wakes as well as one more byte would.
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"w")

    def __bool__(self) -> bool:
        return self._asked

    def listen(self, bell: socket.socket | None) -> None:
        """Let what arrives at a socket end a wait too."""
        self._bell = bell

    def wait(self, seconds: float) -> None:
        """Wait for a wake, a stop or the time."""
        heard = [self._read, *([self._bell.fileno()] if self._bell is not None else [])]
        select.select(heard, [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass
        if self._bell is not None:
            with contextlib.suppress(BlockingIOError):
                while self._bell.recv(64):
                    pass

    def close(self) -> None:
        """Give the bell back."""
        if self._bell is not None:
            self._bell.close()
            self._bell = None


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
    notify("READY=1")
    while not stop:
        notify("WATCHDOG=1")
        try:
            cycle()
        except ContimgError as error:
            log.error("cycle failed; next try in the next cycle", error=str(error))
        except Exception:
            log.exception("cycle failed; next try in the next cycle")
        stop.wait(interval_s)
    notify("STOPPING=1")


def open_registry(settings: Settings, wait: bool) -> Registry:
    """Open the database; a daemon that is started while it is away waits for it."""
    while True:
        try:
            return Registry.of(settings)
        except OutageError as error:
            if not wait:
                raise
            log.error("waiting for the database", error=str(error))
            time.sleep(_DATABASE_WAIT_S)
