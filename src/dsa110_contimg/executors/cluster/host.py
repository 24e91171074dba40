"""What a Dask worker does with a call: it gives it to processes of its own and waits.

So it answers its scheduler whatever the call does, a time-out really ends the call, and a crash
costs this call only.
"""

import contextlib
import multiprocessing
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from distributed import Worker, get_worker, secede
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.system import MEMORY_LIMIT

from dsa110_contimg import software
from dsa110_contimg.errors import RetryableError
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.executors.own_disk import directory, this_host
from dsa110_contimg.executors.priority import Priority, aged
from dsa110_contimg.executors.worker import failure

NAME = "dsa110-contimg"
_REMEMBERED = 1000
"""Calls that were withdrawn before they began."""


@dataclass(frozen=True)
class WorkerFacts:
    """Description of a worker.

    Attributes
    ----------
    host : str
    slots : int
        Number of calls that compute at once.
    memory_gb : float
    versions : dict of str to str
        Versions of its software.
    own_disk : Path or None
        Directory on its machine's own disk for Measurement Sets.
    """

    host: str
    slots: int
    memory_gb: float
    versions: dict[str, str]
    own_disk: Path | None


@dataclass(frozen=True)
class Terms:
    """Limits of a call.

    Attributes
    ----------
    timeout_s : float or None
        The call is killed after computing for so long.
    priority : Priority
        Its place among the calls of all programs on a worker.
    memory_gb : float
        Memory that it may take.
    """

    timeout_s: float | None
    priority: Priority
    memory_gb: float


@dataclass(eq=False)
class _Ticket:
    """A call that waits for its turn."""

    terms: Terms
    since: float

    def rank(self, now: float) -> tuple[float, float]:
        """Lower goes first; who has waited long moves up."""
        return aged(self.terms.priority, now - self.since), self.since


class Host(WorkerPlugin):
    """The processes of one Dask worker, as many as it was given threads."""

    name = NAME
    idempotent = True

    def setup(self, worker: Worker) -> None:
        """Begin, when a worker joins."""
        slots = int(worker.state.nthreads)
        limit = worker.memory_manager.memory_limit or MEMORY_LIMIT
        self.facts = WorkerFacts(this_host(), slots, limit / 1e9, software.versions(), directory())
        slots_dir = Path(worker.local_directory) / "slots"
        self._executor = LocalExecutor(slots, slots_dir, slots)
        self._free_slots = slots
        self._free_gb = self.facts.memory_gb
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._calls: dict[str, Future[object]] = {}
        self._withdrawn: deque[str] = deque(maxlen=_REMEMBERED)

    def teardown(self, worker: Worker) -> None:
        """End every call: the worker leaves."""
        self._executor.close(wait=False)

    def transition(self, key: object, start: str, finish: str, **kwargs: object) -> None:
        """End a call that its program, or its scheduler, has given up."""
        if finish == "released" and start in ("executing", "long-running"):
            self.withdraw(str(key))

    def run(
        self,
        call_id: str,
        function: Callable[..., object],
        arguments: Mapping[str, object],
        terms: Terms,
    ) -> object:
        """Run a call when it is its turn and there are a slot and memory for it."""
        with self._admitted(terms):
            with self._changed:
                if call_id in self._withdrawn:
                    raise RetryableError(f"{function.__name__} was cancelled")
                future = self._executor.start(function, arguments, terms.timeout_s, terms.priority)
                self._calls[call_id] = future
            try:
                return future.result()
            finally:
                with self._changed:
                    del self._calls[call_id]

    def withdraw(self, call_id: str) -> None:
        """End a call, or see to it that it never begins."""
        with self._changed:
            future = self._calls.get(call_id)
            if future is None:
                self._withdrawn.append(call_id)
        if future is not None:
            future.cancel()

    @contextlib.contextmanager
    def _admitted(self, terms: Terms) -> Iterator[None]:
        """Hold a slot and memory; who comes first gets them first, or a large call never would."""
        gigabytes = min(terms.memory_gb, self.facts.memory_gb)
        ticket = _Ticket(terms, time.monotonic())

        def may_begin() -> bool:
            now = time.monotonic()
            first = min(self._waiting, key=lambda other: other.rank(now))
            return first is ticket and self._free_slots > 0 and self._free_gb >= gigabytes

        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(may_begin)
            finally:
                self._waiting.remove(ticket)
            self._free_slots -= 1
            self._free_gb -= gigabytes
            # The next in turn may have room too.
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free_slots += 1
                self._free_gb += gigabytes
                self._changed.notify_all()


def _host() -> Host:
    host = get_worker().plugins[NAME]
    assert isinstance(host, Host)
    return host


def run_call(call_id: str, call: bytes, terms: Terms) -> bytes:
    """The task that Dask carries; others may join it while it waits for its turn.

    Call and answer, or error, are pickled here and there: Dask has no business in them.
    """
    host = _host()
    secede()
    try:
        function, arguments = pickle.loads(call)
        return pickle.dumps((True, host.run(call_id, function, arguments, terms)))
    except Exception as error:  # noqa: BLE001 (whatever it is belongs to the caller)
        return failure(error)


def worker_facts() -> WorkerFacts:
    """Describe the worker on which this runs.

    Raises
    ------
    RuntimeError
        If it may have no processes of its own.
    """
    if multiprocessing.current_process().daemon:
        raise RuntimeError("start the worker with 'dsa110-contimg worker', or with --no-nanny")
    return _host().facts


def withdraw(call_id: str) -> None:
    """End a call of the worker on which this runs."""
    _host().withdraw(call_id)
