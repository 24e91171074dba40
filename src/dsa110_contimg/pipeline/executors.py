"""Who computes: this process, or a pool of local processes.

Both answer to `submit`. Workers only compute and name what they wrote; whoever submitted
commits.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from dsa110_contimg.errors import RetryableError, WorkerDiedError
from dsa110_contimg.pipeline.fresh import resolved
from dsa110_contimg.pipeline.slots import Priority, machine_slot

MAX_DEATHS = 5
"""Workers that one call may kill."""
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
            future.set_result(function(**resolved(arguments)))
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            future.set_exception(error)
        return future


class LocalExecutor:
    """Runs calls in processes of this machine, one thread each.

    The death of a worker costs only its own call, which is run again; a time-out ends a call for
    good with `RetryableError`.

    Parameters
    ----------
    workers : int
    slots_dir : Path
        Where the machine's slot locks lie.
    slots : int, optional
        Processes that may compute at once on this machine; default: its cores.
    timeout_s : float, optional
        A call is killed after this long.
    priority : Priority
        Of its calls for the machine's slots.
    """

    def __init__(
        self,
        workers: int,
        slots_dir: Path,
        slots: int | None = None,
        timeout_s: float | None = None,
        priority: Priority = Priority.BATCH,
    ):
        from pebble import ProcessPool

        os.environ.update(WORKER_ENVIRONMENT)
        self._slots_dir = slots_dir
        self._slots = slots or os.cpu_count() or 1
        self._timeout_s = timeout_s
        self._priority = priority
        self._calls: set[_Call] = set()
        self._closing = False
        self._pool: Any = ProcessPool(
            max_workers=workers,
            max_tasks=200,
            initializer=_start_worker,
            initargs=(os.getpid(),),
            context=multiprocessing.get_context("spawn"),
        )

    def submit(self, function: Callable[..., Any], **arguments: Any) -> "Future[Any]":
        """Queue a call for a worker."""
        call = _Call(function, arguments)
        call.future.set_running_or_notify_cancel()
        self._calls.add(call)
        call.future.add_done_callback(lambda _: self._calls.discard(call))
        self._start(call)
        return call.future

    def _start(self, call: "_Call") -> None:
        inner = self._pool.schedule(
            _in_slot,
            args=(self._slots_dir, self._slots, self._priority, call.function, call.arguments),
            timeout=self._timeout_s,
        )
        call.future.cancel = inner.cancel  # type: ignore[method-assign]
        inner.add_done_callback(lambda done: self._hand_over(done, call))

    def _hand_over(self, done: Any, call: "_Call") -> None:
        from concurrent.futures import CancelledError

        from pebble import ProcessExpired

        name, future = call.function.__name__, call.future
        try:
            future.set_result(done.result())
        except CancelledError:
            future.set_exception(RetryableError(f"{name} was cancelled"))
        except TimeoutError:
            future.set_exception(RetryableError(f"{name} was ended at its time-out"))
        except ProcessExpired as error:
            call.deaths += 1
            # A pool that is closing takes no more calls.
            with contextlib.suppress(RuntimeError):
                if call.deaths < MAX_DEATHS and not self._closing:
                    self._start(call)
                    return
            future.set_exception(
                WorkerDiedError(
                    f"the worker running {name} died {call.deaths} times (last exit code "
                    f"{error.exitcode}; -9 is a kill, often for want of memory, -6 an abort, often "
                    "of a full disk)"
                )
            )
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            future.set_exception(error)

    def close(self, wait: bool = True) -> None:
        """Stop the workers, after their work or at once; calls cut short fail."""
        if wait:
            self._pool.close()
        else:
            self._closing = True
            self._pool.stop()
        self._pool.join()
        # The pool leaves the calls that it stopped unanswered, and somebody waits for them.
        for call in list(self._calls):
            with contextlib.suppress(InvalidStateError):
                call.future.set_exception(RetryableError("the executor was stopped"))

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)


class _Call:
    """A call, its answer, and how many workers died of it."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]):
        self.function = function
        self.arguments = arguments
        self.future: Future[Any] = Future()
        self.deaths = 0


def _start_worker(parent_pid: int) -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "getppid") and os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(1)


def _in_slot(
    slots_dir: Path, slots: int, priority: Priority, function: Callable[..., Any],
    arguments: dict[str, Any],
) -> Any:  # fmt: skip
    with machine_slot(slots_dir, slots, priority):
        return function(**resolved(arguments))
