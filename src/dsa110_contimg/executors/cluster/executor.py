"""Calls to the workers of a Dask scheduler, on as many machines as there are.

Dask only carries them. Where each call goes, how many a worker has, and what happens when a worker
or the scheduler is gone is decided here, by one thread that alone talks to Dask: a call whose
worker left is given to another one, a lost scheduler is waited for.
"""

import contextlib
import math
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import structlog
from distributed import Client, KilledWorker, fire_and_forget
from distributed.client import Future as DaskFuture
from distributed.comm.core import CommClosedError
from distributed.utils import LoopRunner
from tornado.ioloop import IOLoop

from dsa110_contimg import software
from dsa110_contimg.errors import LostHostError, RetryableError, WorkerDiedError
from dsa110_contimg.executors.base import MAX_DEATHS, ClosingExecutor
from dsa110_contimg.executors.calls import Parameters, Result, arguments_of
from dsa110_contimg.executors.cluster.call import AWAY, ClusterCall
from dsa110_contimg.executors.cluster.host import Host, Terms, WorkerFacts, withdraw, worker_facts
from dsa110_contimg.executors.priority import Priority

log = structlog.get_logger()

_LOOK_S = 1.0
_CONNECT_AGAIN_S = 5.0
_GATHER_S = 60.0
_ANSWER_S = 20.0
"""Response time-out of a scheduler; a slower one is taken for frozen."""
_ASK_AGAIN_S = 30.0
_LET_GO_S, _CLOSE_S = 1.0, 30.0
_ANSWERS = 4
"""Number of threads that fetch answers; one may wait for a frozen worker."""
_SCALE_S = 10.0
_IDLE_S = 300.0
"""Time after which workers without calls are given back."""


class Jobs(Protocol):
    """Workers that can be had as they are needed.

    Attributes
    ----------
    at_most : int
        Calls that all of them compute at once.
    """

    at_most: int

    def fit(self, calls: int) -> None:
        """Ask for as many workers as a number of calls needs; called now and then."""

    def close(self) -> None:
        """Give them all back."""


class ClusterExecutor(ClosingExecutor):
    """Runs calls on a Dask cluster.

    Parameters
    ----------
    connect : callable
        Makes a client of the cluster, on a loop; raises OSError while there is none.
    timeout_s : float, optional
        A call is killed after computing for so long.
    priority : Priority
        Of its calls among those of other programs on a worker.
    jobs : Jobs, optional
        Workers that are made as they are needed; closed with the executor.
    patience_s : float
        How long a machine may be without a worker before what lies on its own disk is given up.
    """

    def __init__(
        self,
        connect: Callable[[IOLoop], Client],
        timeout_s: float | None = None,
        priority: Priority = Priority.BATCH,
        jobs: Jobs | None = None,
        patience_s: float = math.inf,
    ):
        self._connect = connect
        self._jobs = jobs
        self._patience_s = patience_s
        self._seen: dict[str, float] = {}
        self._connected_at = 0.0
        self._scale_at = 0.0
        self._busy_at = time.monotonic()
        self._timeout_s = timeout_s
        self._priority = priority
        # One loop for all clients: each failed attempt would leave one of its own behind.
        self._loop = LoopRunner()
        self._loop.start()
        self._answers = ThreadPoolExecutor(_ANSWERS, "answers")
        self._client: Client | None = None
        self._stream: Any = None
        self._connect_at = 0.0
        self._workers: dict[str, WorkerFacts] = {}
        self._asked: dict[str, float] = {}
        self._described: deque[tuple[str, DaskFuture]] = deque()
        self._lock = threading.Lock()
        self._queue: deque[ClusterCall] = deque()
        self._running: set[ClusterCall] = set()
        self._withdrawn: deque[ClusterCall] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._manage, name="cluster", daemon=True)
        self._thread.start()

    @property
    def capacity(self) -> int:
        """Calls that the workers of now compute at once, or those that can be had."""
        there = sum(facts.slots for facts in list(self._workers.values()))
        return there if self._jobs is None else max(there, self._jobs.at_most)

    @property
    def own_disks(self) -> Mapping[str, Path]:
        """Directories on the own disks of its workers' machines, by their names."""
        known = list(self._workers.values())
        return {facts.host: facts.own_disk for facts in known if facts.own_disk is not None}

    def submit(
        self,
        function: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> "Future[Result]":
        """Queue a call for a worker."""
        queued = ClusterCall(self._withdraw, function, arguments_of(function, *args, **kwargs))
        with self._lock:
            if self._closing:
                queued.fail(RetryableError("the executor was stopped"))
            else:
                self._queue.append(queued)
        self._wake.set()
        return queued

    def _withdraw(self, call: "ClusterCall") -> None:
        """End a call, whether it waits or runs."""
        with self._lock:
            self._withdrawn.append(call)
        self._wake.set()

    def close(self, wait: bool = True) -> None:
        """Stop, after the work that was given or at once; calls cut short fail."""
        with self._lock:
            waiting = [*self._queue, *self._running] if wait else []
        futures.wait(waiting)
        with self._lock:
            self._closing = True
        self._wake.set()
        self._thread.join(_CLOSE_S)
        # Where Dask does not let go of its thread, calls are answered all the same.
        self._end()

    def _manage(self) -> None:
        """The one thread that talks to Dask."""
        while not self._closing:
            try:
                self._turn()
            except Exception:
                # Calls must be answered for ever.
                log.exception("cluster: this round failed")
            self._wake.wait(_LOOK_S)
            self._wake.clear()
        given = self._given()
        self._end()
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._end_calls(self._client, given)
            with contextlib.suppress(Exception):
                self._client.close(timeout=_LET_GO_S)
        if self._jobs is not None:
            try:
                self._jobs.close()
            except Exception:
                # Calls must be answered all the same.
                log.exception("cluster: jobs may be left in the queue")
        self._answers.shutdown(wait=False)
        self._loop.stop(_LET_GO_S)

    def _end(self) -> None:
        with self._lock:
            left = [*self._queue, *self._running]
        for call in left:
            call.fail(RetryableError("the executor was stopped"))

    def _turn(self) -> None:
        try:
            self._round()
        except AWAY as error:
            self._lose(error)

    def _round(self) -> None:
        self._withdraw_all()
        client = self._connected()
        if client is not None:
            self._fit()
            self._look(client)
            self._give(client)

    def _connected(self) -> Client | None:
        if self._client is not None:
            # A client that has connected again by itself has forgotten what it had given.
            if self._client.status != "running" or self._client.scheduler_comm is not self._stream:
                raise CommClosedError("the scheduler does not answer")
            return self._client
        if time.monotonic() < self._connect_at:
            return None
        self._connect_at = time.monotonic() + _CONNECT_AGAIN_S
        self._client = client = self._connect(self._loop.loop)
        self._stream = client.scheduler_comm
        client.sync(_register_host, client, callback_timeout=_ANSWER_S)
        self._connected_at = time.monotonic()
        log.info("cluster: connected")
        return client

    def _fit(self) -> None:
        """Let there be workers for the calls, and for a while after the last one."""
        now = time.monotonic()
        with self._lock:
            calls = len(self._queue) + len(self._running)
        self._busy_at = now if calls else self._busy_at
        if self._jobs is None or now < self._scale_at:
            return
        self._scale_at = now + _SCALE_S
        if calls or now - self._busy_at > _IDLE_S:
            self._jobs.fit(calls)

    def _lose(self, error: BaseException) -> None:
        """Everything that was given is given again when there is a scheduler."""
        log.error("cluster: waiting for the scheduler", error=str(error) or type(error).__name__)
        client, self._client = self._client, None
        self._workers, self._asked = {}, {}
        self._described.clear()
        with self._lock:
            lost = [call for call in self._running if not call.done()]
            self._running.clear()
            for call in lost:
                call.forget()
            self._queue.extendleft(reversed(lost))
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=_LET_GO_S)

    def _look(self, client: Client) -> None:
        """Update the workers, and give calls of those that left to others."""
        present = set(client.nthreads(callback_timeout=_ANSWER_S))
        for address in self._workers.keys() - present:
            log.warning("cluster: a worker left", worker=address)
            del self._workers[address]
        for call in self._given():
            if call.worker not in present:
                self._give_again(call, call.future)
        now = time.monotonic()
        self._asked = {a: at for a, at in self._asked.items() if a in present}
        for address in present - self._workers.keys():
            if now < self._asked.get(address, 0.0):
                continue
            self._asked[address] = now + _ASK_AGAIN_S
            future = client.submit(
                worker_facts, key=f"facts-{uuid4().hex}", workers=[address], pure=False
            )
            future.add_done_callback(partial(self._worker_described, address))
        while self._described:
            self._use(*self._described.popleft())

    def _worker_described(self, address: str, future: DaskFuture) -> None:
        self._described.append((address, future))
        self._wake.set()

    def _use(self, address: str, future: DaskFuture) -> None:
        """Use a worker from now on, if its software has the same versions."""
        try:
            facts: WorkerFacts = future.result(timeout=_GATHER_S)
        except (Exception, CancelledError) as error:  # noqa: BLE001 (it is asked again)
            log.error("cluster: a worker is not used", worker=address, reason=str(error))
            return
        others = _differences(software.versions(), facts.versions)
        if others:
            log.error(
                "cluster: a worker of other versions is not used; install the same there",
                worker=address,
                host=facts.host,
                versions=others,
            )
            # It stays what it is until it leaves.
            self._asked[address] = math.inf
            return
        self._workers[address] = facts
        log.info(
            "cluster: a worker joined",
            worker=address,
            host=facts.host,
            slots=facts.slots,
            memory_gb=round(facts.memory_gb, 1),
        )

    def _given(self) -> list["ClusterCall"]:
        with self._lock:
            return list(self._running)

    def _give(self, client: Client) -> None:
        """Give waiting calls to workers, in order, as long as one has room.

        Calls that have to go to one machine, which has none, hold up nobody.
        """
        now = time.monotonic()
        self._seen.update((facts.host, now) for facts in self._workers.values())
        with self._lock:
            waiting = list(self._queue)
        for call in waiting:
            self._fail_if_lost(call, now)
            address = self._room(call)
            if address is None and not call.done():
                if call.host:
                    continue
                return
            with self._lock:
                if call not in self._queue:
                    continue
                self._queue.remove(call)
                if address is None or call.done():
                    continue
                self._running.add(call)
            call.give(
                client,
                address,
                Terms(self._timeout_s, self._priority, call.memory_gb),
                self._came_back,
            )

    def _fail_if_lost(self, call: "ClusterCall", now: float) -> None:
        """Answer a call whose machine has had no worker for too long."""
        since = max(call.since, self._connected_at, self._seen.get(call.host, 0.0))
        if not call.host or now - since < self._patience_s:
            return
        message = f"{call.name}: its files lie on {call.host}, which has had no worker for"
        call.fail(LostHostError(f"{message} {now - since:.0f} s", call.host))

    def _room(self, call: "ClusterCall") -> str | None:
        """The worker with the most free slots that has the memory too, where the files lie."""
        best, most, given = None, 0, self._given()
        for address, facts in self._workers.items():
            if call.host not in ("", facts.host):
                continue
            its = [other for other in given if other.worker == address]
            free_gb = facts.memory_gb - sum(other.memory_gb for other in its)
            free = facts.slots - len(its)
            # One call goes also where it needs more than there is: it may be smaller than declared.
            if free > most and (free_gb >= call.memory_gb or not its):
                best, most = address, free
        return best

    def _came_back(self, call: "ClusterCall", future: DaskFuture) -> None:
        """Fetch the answer of a task that ended; Dask has one thread for all such notices."""
        with contextlib.suppress(RuntimeError):
            self._answers.submit(self._settle, call, future)

    def _settle(self, call: "ClusterCall", future: DaskFuture) -> None:
        try:
            # Raises what went wrong on Dask's side; errors of the call itself are answers.
            good, answer = pickle.loads(future.result(timeout=_GATHER_S))
            self._answer(call, future, good, answer)
        except (*AWAY, KilledWorker, CancelledError):
            # The answer is lost on its way.
            self._give_again(call, future)
        except Exception as error:  # noqa: BLE001 (a call must be answered)
            failure = RetryableError(f"{call.name}: {type(error).__name__}: {error}")
            self._answer(call, future, False, failure)
        self._wake.set()

    def _answer(self, call: "ClusterCall", future: DaskFuture, good: bool, answer: Any) -> None:
        with self._lock:
            # What an execution says that was given up does not count.
            if call.future is not future:
                return
            self._running.discard(call)
        call.answer(answer) if good else call.fail(answer)

    def _give_again(self, call: "ClusterCall", future: "DaskFuture | None") -> None:
        """An execution is lost; another may try."""
        with self._lock:
            if call not in self._running or call.future is not future:
                return
            self._running.remove(call)
            call.forget()
            call.deaths += 1
            if call.deaths < MAX_DEATHS:
                self._queue.appendleft(call)
                return
        call.fail(
            WorkerDiedError(
                f"the workers running {call.name} left the cluster {call.deaths} times; see "
                "their logs (often they had too little memory)"
            )
        )

    def _withdraw_all(self) -> None:
        while self._withdrawn:
            call = self._withdrawn.popleft()
            call.fail(RetryableError(f"{call.name} was cancelled"))
            if self._client is not None:
                self._end_calls(self._client, [call])
            with self._lock:
                self._running.discard(call)
                with contextlib.suppress(ValueError):
                    self._queue.remove(call)

    def _end_calls(self, client: Client, calls: Iterable["ClusterCall"]) -> None:
        for call in list(calls):
            address, call_id = call.worker, call.call_id
            call.forget()
            if address in self._workers:
                fire_and_forget(
                    client.submit(
                        withdraw, call_id, key=f"withdraw-{call_id}", workers=[address], pure=False
                    )
                )


async def _register_host(client: Client) -> None:
    """Give each worker its processes; within the client's loop its methods can be awaited."""
    await client.register_plugin(Host())


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    return {
        name: f"{version} here, {theirs.get(name, 'absent')} there"
        for name, version in ours.items()
        if theirs.get(name) != version
    }
