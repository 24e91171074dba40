"""Stop a run from another thread: what waits does not begin, what computes is ended."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from dsa110_contimg.errors import CancelledRunError


class Cancellation:
    """Given to a run in its context; `cancel` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Stop the run."""
        with self._lock:
            self._cancelled = True
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    @property
    def is_cancelled(self) -> bool:
        """True once the run is to stop."""
        return self._cancelled

    def check(self) -> None:
        """Raise if the run is to stop.

        Raises
        ------
        CancelledRunError
        """
        if self._cancelled:
            raise CancelledRunError("the run was cancelled")

    @contextlib.contextmanager
    def ends(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call something when the run is cancelled within the block.

        Raises
        ------
        CancelledRunError
            If it was before.
        """
        with self._lock:
            self._callbacks.append(callback)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
