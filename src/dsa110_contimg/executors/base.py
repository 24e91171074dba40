"""Interface of executors, and the base class of those that have to be closed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dsa110_contimg.executors.calls import Parameters, Result

MAX_DEATHS = 5
"""Workers that one call may kill before it fails."""


class Executor(Protocol):
    """Runs functions."""

    @property
    def capacity(self) -> int:
        """Number of calls that it computes at once."""
        ...

    @property
    def own_disks(self) -> Mapping[str, Path]:
        """Directories on the own disks of its workers' machines, by the machines' names."""
        ...

    def submit(
        self,
        function: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> "Future[Result]":
        """Start a call; the future's result or error is the function's.

        `cancel` of a future withdraws a call that waits and ends one that runs. It returns True
        only if the call is cancelled by then; otherwise the future fails with `RetryableError`.
        """
        ...


class ClosingExecutor(ABC):
    """An executor that is closed at the end of a `with` block: at once if the block failed."""

    @abstractmethod
    def close(self, wait: bool = True) -> None:
        """Stop after the work that was given, or at once; calls that are cut short fail."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)
