"""A process that makes calls, seen from both ends of its pipe."""

import ctypes
import errno
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from dsa110_contimg.errors import OutageError, RetryableError
from dsa110_contimg.executors.niceness import extend_to_session
from dsa110_contimg.executors.slots import machine_slot

WAITING, COMPUTING = b"waiting", b"computing"
"""Messages of a worker before its answer. They are so short that they come whole or not at all."""
_CALLS_PER_WORKER = 200
"""Number of calls after which a worker is replaced, because libraries leak memory."""
_HEARTBEAT_S = 1.0
"""Interval between the heartbeats of a worker that waits for a slot."""
_END_S = 5.0
_OUTAGES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOMEM)
"""System errors that are the machine's and say nothing of the work."""
_PR_SET_PDEATHSIG = 1
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # A worker keeps what it frees: asking the system for the same pages again took a seventh of
    # the time. Arrays above glibc's limit of 32 MB still come and go, or memory would fray.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**35),
    # Pages of 2 MB for what libraries allocate, as numpy asks for its arrays by itself.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class Worker:
    """A process and the pipe to it."""

    def __init__(self, slot_of: tuple[Path, int]):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, os.getpid(), *slot_of), daemon=True
        )
        self.process.start()
        theirs.close()
        self.calls = 0

    @classmethod
    def replace(cls, worker: "Worker | None", slot_of: tuple[Path, int]) -> "Worker":
        """A new worker, after the old one has ended."""
        if worker is not None:
            worker.end()
        return cls(slot_of)

    def is_used_up(self) -> bool:
        """True if it can take no more calls."""
        return self.calls >= _CALLS_PER_WORKER or not self.process.is_alive()

    def end(self) -> None:
        """Let it end, or end it."""
        self.pipe.close()
        # It waits for its next call and sees the pipe's end; a stopped one does not.
        self.process.join(_END_S)
        self.kill()

    def kill(self) -> None:
        """End it now, whatever it does; a stopped process too."""
        self.process.kill()
        self.process.join()


def end_with_parent() -> None:
    """Let this process be killed when the thread ends that made it, where the system can."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start_worker(parent_pid: int) -> None:
    """Leave Ctrl-C to the parent, and end when the thread does that made this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    extend_to_session()
    if os.getppid() != parent_pid:
        os._exit(1)


def _work(pipe: Connection, parent_pid: int, slots_dir: Path, slots: int) -> None:
    """Main program of a worker: calls in, answers out."""
    _start_worker(parent_pid)
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        begun = False
        try:
            priority, gigabytes, call = pickle.loads(message)
            with machine_slot(slots_dir, slots, priority, _Heartbeat(pipe), gigabytes):
                pipe.send_bytes(COMPUTING)
                begun = True
                function, arguments = pickle.loads(call)
                answer = pickle.dumps((True, function(**arguments)))
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            answer = failure(error)
            if not begun:
                pipe.send_bytes(COMPUTING)
        pipe.send_bytes(answer)


class _Heartbeat:
    """Called often by a worker that waits; sends a heartbeat now and then."""

    def __init__(self, pipe: Connection):
        self._pipe = pipe
        self._sent_s = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._sent_s >= _HEARTBEAT_S:
            self._pipe.send_bytes(WAITING)
            self._sent_s = time.monotonic()


def failure(error: Exception) -> bytes:
    """An error as it travels, with where it was raised."""
    if isinstance(error, OSError) and error.errno in _OUTAGES:
        error = OutageError(str(error))
    error.add_note(traceback.format_exc())
    try:
        return pickle.dumps((False, error))
    except Exception:  # noqa: BLE001 (an error of whatever kind that cannot travel)
        return pickle.dumps((False, RetryableError(f"{type(error).__name__}: {error}")))
