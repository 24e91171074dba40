"""Who computes: this process, or a pool of local processes.

Both answer to `submit`. Workers only compute and name what they wrote; whoever submitted
commits. A machine has one set of slots, shared by every program on it: a slot is a file lock held
by the process that computes, so a killed one frees it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from dsa110_contimg.errors import RetryableError

_SLOT_POLL_S = 0.05
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


class Executor(Protocol):
    """Runs functions."""

    def submit(self, function: Callable[..., Any], **arguments: Any) -> "Future[Any]":
        """Start a call; the future's result or error is the function's."""
        ...


class InlineExecutor:
    """Runs each call at once in this process, for tests and notebooks."""

    def submit(self, function: Callable[..., Any], **arguments: Any) -> "Future[Any]":
        """Run the call and return its finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(**arguments))
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            future.set_exception(error)
        return future


class LocalExecutor:
    """Runs calls in processes of this machine, one thread each.

    A crash or time-out costs only its own call, which fails with `RetryableError`.

    Parameters
    ----------
    workers : int
    slots_dir : Path
        Where the machine's slot locks lie.
    slots : int, optional
        Processes that may compute at once on this machine; default: its cores.
    timeout_s : float, optional
        A call is killed after this long.
    """

    def __init__(
        self,
        workers: int,
        slots_dir: Path,
        slots: int | None = None,
        timeout_s: float | None = None,
    ):
        from pebble import ProcessPool

        os.environ.update(WORKER_ENVIRONMENT)
        self._slots_dir = slots_dir
        self._slots = slots or os.cpu_count() or 1
        self._timeout_s = timeout_s
        self._outstanding: set[Future[Any]] = set()
        self._pool: Any = ProcessPool(
            max_workers=workers,
            max_tasks=200,
            initializer=_start_worker,
            initargs=(os.getpid(),),
            context=multiprocessing.get_context("spawn"),
        )

    def submit(self, function: Callable[..., Any], **arguments: Any) -> "Future[Any]":
        """Queue a call for a worker."""
        inner = self._pool.schedule(
            _in_slot,
            args=(self._slots_dir, self._slots, function, arguments),
            timeout=self._timeout_s,
        )
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        outer.cancel = inner.cancel  # type: ignore[method-assign]
        self._outstanding.add(outer)
        outer.add_done_callback(self._outstanding.discard)
        inner.add_done_callback(lambda done: _hand_over(done, outer, function.__name__))
        return outer

    def close(self, wait: bool = True) -> None:
        """Stop the workers, after their work or at once; calls cut short fail."""
        if wait:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()
        # The pool leaves the calls that it stopped unanswered, and somebody waits for them.
        for future in list(self._outstanding):
            with contextlib.suppress(InvalidStateError):
                future.set_exception(RetryableError("the executor was stopped"))

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)


def _hand_over(done: Any, outer: "Future[Any]", name: str) -> None:
    from concurrent.futures import CancelledError

    from pebble import ProcessExpired

    try:
        outer.set_result(done.result())
    except CancelledError:
        outer.set_exception(RetryableError(f"{name} was cancelled"))
    except TimeoutError:
        outer.set_exception(RetryableError(f"{name} was ended at its time-out"))
    except ProcessExpired as error:
        outer.set_exception(
            RetryableError(f"the worker running {name} died (exit code {error.exitcode})")
        )
    except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
        outer.set_exception(error)


def _start_worker(parent_pid: int) -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "getppid") and os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(1)


def _in_slot(
    slots_dir: Path, slots: int, function: Callable[..., Any], arguments: dict[str, Any]
) -> Any:
    with machine_slot(slots_dir, slots):
        return function(**arguments)


@contextlib.contextmanager
def machine_slot(slots_dir: Path, slots: int) -> Iterator[int]:
    """Hold one of the machine's slots while computing.

    Yields
    ------
    int
        Number of the slot.
    """
    from filelock import FileLock, Timeout

    slots_dir.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(slots):
            lock = FileLock(slots_dir / f"slot{number:02d}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield number
            finally:
                lock.release()
            return
        # A lock cannot be waited for among several: ask again shortly.
        time.sleep(_SLOT_POLL_S)
