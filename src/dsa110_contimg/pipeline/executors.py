"""Who computes: this process, or processes of this machine.

Both answer to `submit`. Workers only compute and name what they wrote; whoever submitted
commits.

A worker has a pipe and a thread of its own and shares nothing with the others, so that one killed
at any moment, with a message half written, harms nobody. (The pools of the standard library, loky
and Pebble end as a whole then.)
"""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from dsa110_contimg.errors import ElsewhereError, OutageError, RetryableError, WorkerDiedError
from dsa110_contimg.pipeline.calls import Call, Parameters, Result, arguments_of
from dsa110_contimg.pipeline.fresh import remove_made, resolved
from dsa110_contimg.pipeline.needs import memory_gb
from dsa110_contimg.pipeline.niceness import extend_to_session
from dsa110_contimg.pipeline.own_disk import check_here, own_disks
from dsa110_contimg.pipeline.slots import Priority, machine_slot

MAX_DEATHS = 5
"""Workers that one call may kill."""
_CALLS_PER_WORKER = 200
"""After which a worker is replaced: libraries leak."""
_PULSE_S = 1.0
"""How often a worker that waits for its slot says so."""
_LONGEST_SILENCE_S = 60.0
"""Of a worker that waits; then it is taken for frozen. Longer than starting one takes."""
_WAITING, _COMPUTING = b"waiting", b"computing"
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


class Executor(Protocol):
    """Runs functions."""

    @property
    def capacity(self) -> int:
        """Calls that it computes at once."""
        ...

    @property
    def own_disks(self) -> Mapping[str, Path]:
        """Directories on the own disks of its workers' machines, by their names."""
        ...

    def submit(
        self,
        function: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> "Future[Result]":
        """Start a call; the future's result or error is the function's."""
        ...


class InlineExecutor:
    """Runs each call at once in this process, for tests and notebooks."""

    capacity = 1

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
        """Run the call and return its finished future."""
        future: Future[Result] = Future()
        arguments = arguments_of(function, *args, **kwargs)
        given = resolved(arguments)
        try:
            check_here(arguments)
            future.set_result(Call(function, given)())
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            remove_made(arguments, given)
            future.set_exception(error)
        return future


class Closing:
    """An executor that is closed at the end of a `with` block: at once if that failed."""

    def close(self, wait: bool = True) -> None:
        """Stop, after the work that was given or at once; calls cut short fail."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)


class LocalExecutor(Closing):
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
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        timeout_s: float | None,
        priority: Priority,
    ) -> "Future[Any]":
        """Queue a call with a time-out and a priority of its own."""
        call = _Call(function, arguments, timeout_s, priority)
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
        worker: _Worker | None = None
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
                        worker = _Worker.replace(worker, self._slot_of)
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


class _Worker:
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
    def replace(cls, worker: "_Worker | None", slot_of: tuple[Path, int]) -> "_Worker":
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


class _Call(Future[Any]):
    """A call and its answer."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        timeout_s: float | None,
        priority: Priority,
    ):
        super().__init__()
        self._function = function
        self._arguments = arguments
        self._timeout_s = timeout_s
        self._priority = priority
        self._name = function.__name__
        self._worker: _Worker | None = None
        self._deaths = 0
        self._stopped = False
        self._exceeded = ""
        self._lock = threading.Lock()

    def cancel(self) -> bool:
        """Withdraw the call; if it runs, its worker is killed."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.process.kill()
                return True
        return super().cancel()

    def fail(self, reason: str) -> None:
        """Answer with an error that may be tried again, if there is no answer yet."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(RetryableError(f"{self._name}: {reason}"))

    def run_on(self, worker: _Worker) -> None:
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
            said = _WAITING
            while said == _WAITING:
                # These messages are so short that they come whole or not at all.
                if not worker.pipe.poll(_LONGEST_SILENCE_S):
                    self._end(worker, f"no sign of life of {_LONGEST_SILENCE_S:g} s")
                said = worker.pipe.recv_bytes()
            with self._limited(worker):
                said = worker.pipe.recv_bytes()
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
        good, answer = pickle.loads(said)
        if good:
            self.set_result(answer)
        else:
            remove_made(self._arguments, given)
            self.set_exception(answer)

    @contextlib.contextmanager
    def _limited(self, worker: _Worker) -> Iterator[None]:
        """End the worker if this takes longer than the call may."""
        if self._timeout_s is None:
            yield
            return
        limit = f"its time-out of {self._timeout_s:g} s"
        timer = threading.Timer(self._timeout_s, self._end, (worker, limit))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self, worker: _Worker, limit: str) -> None:
        self._exceeded = limit
        worker.process.kill()

    def _count_death(self, exit_code: int | None) -> None:
        self._deaths += 1
        if self._stopped:
            self.set_exception(RetryableError(f"{self._name} was cancelled"))
        elif self._exceeded:
            self.set_exception(RetryableError(f"{self._name} was ended at {self._exceeded}"))
        elif self._deaths >= MAX_DEATHS:
            self.set_exception(
                WorkerDiedError(
                    f"the worker running {self._name} died {self._deaths} times (last exit code "
                    f"{exit_code}; -9 is a kill, often for want of memory, -6 an "
                    "abort, often of a full disk)"
                )
            )


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
            with machine_slot(slots_dir, slots, priority, _Pulse(pipe), gigabytes):
                pipe.send_bytes(_COMPUTING)
                begun = True
                function, arguments = pickle.loads(call)
                answer = pickle.dumps((True, function(**arguments)))
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
            answer = failure(error)
            if not begun:
                pipe.send_bytes(_COMPUTING)
        pipe.send_bytes(answer)


class _Pulse:
    """Says now and then that the worker still waits."""

    def __init__(self, pipe: Connection):
        self._pipe = pipe
        self._said_s = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._said_s >= _PULSE_S:
            self._pipe.send_bytes(_WAITING)
            self._said_s = time.monotonic()


def failure(error: Exception) -> bytes:
    """An error as it travels, with where it was raised."""
    if isinstance(error, OSError) and error.errno in _OUTAGES:
        error = OutageError(str(error))
    error.add_note(traceback.format_exc())
    try:
        return pickle.dumps((False, error))
    except Exception:  # noqa: BLE001 (an error of whatever kind that cannot travel)
        return pickle.dumps((False, RetryableError(f"{type(error).__name__}: {error}")))
