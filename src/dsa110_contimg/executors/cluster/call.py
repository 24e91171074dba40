"""A call that a cluster makes, and its answer."""

import contextlib
import pickle
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.client import Future as DaskFuture

from dsa110_contimg.executors.cluster.host import Terms, run_call
from dsa110_contimg.executors.needs import memory_gb
from dsa110_contimg.executors.own_disk import needed_host

AWAY = (OSError, RuntimeError)
"""What a client raises when its scheduler is gone or silent; RuntimeError once it has closed."""


class ClusterCall(Future[Any]):
    """A call and its answer."""

    def __init__(
        self,
        withdraw: Callable[["ClusterCall"], None],
        function: Callable[..., object],
        arguments: Mapping[str, object],
    ):
        super().__init__()
        self._withdraw = withdraw
        self._call = pickle.dumps((function, dict(arguments)))
        self.name = function.__name__
        self.memory_gb = memory_gb(function)
        self.host = needed_host(arguments)
        self.since = time.monotonic()
        self.deaths = 0
        self.call_id = ""
        self.worker = ""
        self.future: DaskFuture | None = None

    def cancel(self) -> bool:
        """Withdraw the call, and kill it if it runs; it fails soon after, so this is False."""
        if not self.done():
            self._withdraw(self)
        return False

    def give(
        self,
        client: Client,
        worker: str,
        terms: Terms,
        came_back: Callable[["ClusterCall", DaskFuture], None],
    ) -> None:
        """Send it to a worker, under a name that no other execution has."""
        self.call_id = f"{self.name}-{uuid4().hex}"
        self.worker = worker
        self.future = client.submit(
            run_call,
            self.call_id,
            self._call,
            terms,
            key=self.call_id,
            workers=[worker],
            pure=False,
            retries=0,
        )
        self.future.add_done_callback(partial(came_back, self))

    def forget(self) -> None:
        """Whatever its last execution still says does not count."""
        future, self.future, self.worker = self.future, None, ""
        if future is not None:
            with contextlib.suppress(*AWAY):
                future.release()

    def answer(self, result: object) -> None:
        """Give the result, if there is no answer yet."""
        with contextlib.suppress(InvalidStateError):
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Give an error, if there is no answer yet."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)
