"""The executor of this machine: processes that each have a pipe and a thread of their own.

Workers only compute and return the names of files that they wrote; the program that submitted a
call commits its result. Workers share nothing with each other, so that one that is killed at any
moment, with a message half written, harms nobody. (The pools of the standard library, loky and
Pebble end as a whole then.)
"""

import contextlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from dsa110_contimg.errors import CrashError, ElsewhereError, RetryableError, WorkerDiedError
from dsa110_contimg.executors.base import MAX_DEATHS, ClosingExecutor
from dsa110_contimg.executors.calls import Parameters, Result, arguments_of
from dsa110_contimg.executors.fresh import remove_made, resolved
from dsa110_contimg.executors.needs import memory_gb
from dsa110_contimg.executors.own_disk import check_here, own_disks
from dsa110_contimg.executors.priority import Priority
from dsa110_contimg.executors.worker import WAITING, WORKER_ENVIRONMENT, Worker

_LONGEST_SILENCE_S = 60.0
"""A worker that waits and sends no heartbeat for so long is ended; starting one takes less."""
_CRASHES = {-signal.SIGSEGV, -signal.SIGFPE, -signal.SIGILL}
"""Exit codes that neither an operator, nor want of memory, nor a full disk gives."""


class LocalExecutor(ClosingExecutor):
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
        A call is killed after computing for so long.
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
        os.environ.update(WORKER_ENVIRONMENT)
        self._slot_of = (slots_dir, slots or os.cpu_count() or 1)
        self._timeout_s = timeout_s
        self._priority = priority
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._running: set[_Call] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._stopped = False
        self._limits = _TimeLimits()
        # A worker ends with the thread that started it (see `_start_worker`), so these must last.
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def capacity(self) -> int:
        """Its workers."""
        return len(self._threads)

    @property
    def own_disks(self) -> Mapping[str, Path]:
        """Just that of this machine, if it has one."""
        return own_disks()

    def submit(
        self,
        function: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> "Future[Result]":
        """Queue a call for a worker."""
        arguments = arguments_of(function, *args, **kwargs)
        return self.start(function, arguments, self._timeout_s, self._priority)

    def start(
        self,
        function: Callable[..., object],
        arguments: Mapping[str, object],
        timeout_s: float | None,
        priority: Priority,
    ) -> "Future[Any]":
        """Queue a call with a time-out and a priority of its own."""
        call = _Call(function, arguments, timeout_s, priority, self._limits)
        try:
            check_here(arguments)
        except ElsewhereError as error:
            call.set_exception(error)
            return call
        with self._lock:
            if self._closed:
                call.set_exception(RetryableError("the executor was stopped"))
            else:
                self._calls.put(call)
        return call

    def _serve(self) -> None:
        worker: Worker | None = None
        while (call := self._calls.get()) is not None:
            if not call.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._running.add(call)
            while not call.done():
                if self._stopped:
                    call.set_exception(RetryableError("the executor was stopped"))
                    break
                try:
                    if worker is None or worker.is_used_up():
                        worker = Worker.replace(worker, self._slot_of)
                    call.run_on(worker)
                except Exception as error:  # noqa: BLE001 (a call must always be answered)
                    call.fail(f"the worker could not be used: {error}")
                    if worker is not None:
                        worker.kill()
            with self._lock:
                self._running.discard(call)
        if worker is not None:
            worker.end()

    def close(self, wait: bool = True) -> None:
        """Stop the workers, after their work or at once; calls cut short fail."""
        with self._lock:
            self._closed, self._stopped = True, not wait
            running = list(self._running)
            for _ in self._threads:
                self._calls.put(None)
        if not wait:
            for call in running:
                call.cancel()
        for thread in self._threads:
            thread.join()
        self._limits.close()


class _TimeLimits:
    """One thread that ends what exceeds its time, for all calls of an executor."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="time limits", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def limit(self, timeout_s: float | None, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` once if the block takes longer; never after the block has ended."""
        if timeout_s is None:
            yield
            return
        key = object()
        with self._changed:
            self._due[key] = (time.monotonic() + timeout_s, end)
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(key, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for key in [key for key, (due, _) in self._due.items() if due <= now]:
                    self._due.pop(key)[1]()
                nearest = min((due for due, _ in self._due.values()), default=None)
                self._changed.wait(None if nearest is None else nearest - now)


class _Call(Future[object]):
    """A call and its answer."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Mapping[str, object],
        timeout_s: float | None,
        priority: Priority,
        limits: _TimeLimits,
    ):
        super().__init__()
        self._function = function
        self._arguments = arguments
        self._timeout_s = timeout_s
        self._priority = priority
        self._limits = limits
        self._name = function.__name__
        self._worker: Worker | None = None
        self._exit_codes: list[int | None] = []
        self._stopped = False
        self._exceeded = ""
        self._lock = threading.Lock()

    def cancel(self) -> bool:
        """Withdraw the call; if it runs, kill its worker and return False."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.process.kill()
                return False
        return super().cancel()

    def fail(self, reason: str) -> None:
        """Answer with an error that may be tried again, if there is no answer yet."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(RetryableError(f"{self._name}: {reason}"))

    def run_on(self, worker: Worker) -> None:
        """Run the call on a worker; it stays unanswered if that died and another may try."""
        with self._lock:
            if self._stopped:
                self.set_exception(RetryableError(f"{self._name} was cancelled"))
                return
            self._worker = worker
        worker.calls += 1
        given = resolved(self._arguments)
        try:
            call = pickle.dumps((self._function, given))
            worker.pipe.send_bytes(pickle.dumps((self._priority, memory_gb(self._function), call)))
            message = WAITING
            while message == WAITING:
                if not worker.pipe.poll(_LONGEST_SILENCE_S):
                    self._end(worker, f"no sign of life of {_LONGEST_SILENCE_S:g} s")
                message = worker.pipe.recv_bytes()
            limit = f"its time-out of {self._timeout_s:g} s" if self._timeout_s else ""
            with self._limits.limit(self._timeout_s, lambda: self._end(worker, limit)):
                message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            worker.kill()
            remove_made(self._arguments, given)
            self._count_death(worker.process.exitcode)
            return
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            self.set_exception(error)
            return
        finally:
            with self._lock:
                self._worker = None
        good, answer = pickle.loads(message)
        if good:
            self.set_result(answer)
        else:
            remove_made(self._arguments, given)
            self.set_exception(answer)

    def _end(self, worker: Worker, limit: str) -> None:
        self._exceeded = limit
        worker.process.kill()

    def _count_death(self, exit_code: int | None) -> None:
        self._exit_codes.append(exit_code)
        deaths = len(self._exit_codes)
        if self._stopped:
            self.set_exception(RetryableError(f"{self._name} was cancelled"))
        elif self._exceeded:
            self.set_exception(RetryableError(f"{self._name} was ended at {self._exceeded}"))
        elif deaths < MAX_DEATHS:
            return
        elif _CRASHES.issuperset(self._exit_codes):
            self.set_exception(
                CrashError(
                    f"{self._name} crashed {deaths} workers (last exit code {exit_code}); report "
                    "it with the files that it read"
                )
            )
        else:
            self.set_exception(
                WorkerDiedError(
                    f"the worker running {self._name} died {deaths} times (last exit code "
                    f"{exit_code}; -9 is a kill, often for want of memory, -6 an "
                    "abort, often of a full disk)"
                )
            )
