"""Contexts of a run and of its stages: root directory, inputs, executor."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from dsa110_contimg.errors import (
    BadInputError,
    CancelledRunError,
    ContimgError,
    GraphError,
    NothingToDo,
    RetryableError,
    StaleClaimError,
    UsageError,
    disk_failed,
)
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.executors.calls import Call, Result
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.pipeline.cancellation import Cancellation

_log = structlog.get_logger()
Progress = Callable[[str, float, str], None]
"""Called with a stage's name, its fraction done and what it is doing."""


class Journal(Protocol):
    """Remembers what calls gave, so that a run that was killed goes on where it was."""

    def find(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """The result of an equal call whose files are still there, or None."""
        ...

    def keep(self, function: Callable[..., Any], arguments: Mapping[str, Any], result: Any) -> None:
        """Remember a result."""
        ...


def _silent(stage: str, fraction: float, message: str) -> None:
    return None


@dataclass(frozen=True)
class StageContext:
    """Root directory and services for one stage of a run.

    Attributes
    ----------
    root : Path
        Everything is written below it; made absolute.
    executor : Executor
        Runs what is independent; inline without one.
    progress : callable
    journal : Journal, optional
        Calls that it knows are not made again.
    cancellation : Cancellation
        Stops the run.
    own_disks : bool
        What lies between stages may go to workers' own disks.
    stage_name : str
        Of the running stage, for its progress.
    seconds : mapping of str to float
        Duration of each stage that is done.
    """

    root: Path
    _: KW_ONLY
    executor: Executor = field(default_factory=InlineExecutor)
    progress: Progress = _silent
    journal: Journal | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    own_disks: bool = False
    stage_name: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())

    def compute(self, call: Call[Result], what: str) -> Result:
        """Make one call on the executor; see `map`."""
        return self.map([call], what)[0]

    def map(self, calls: Sequence[Call[Result]], what: str) -> list[Result]:
        """Make calls on the executor, with progress.

        Parameters
        ----------
        calls : sequence of Call
        what : str
            What one call makes, for the progress message.

        Returns
        -------
        list
            In the order of the calls.
        """
        return self._map(calls, what, _nothing)

    def map_sparing(self, calls: Sequence[Call[Result]], what: str) -> list[Result | Exception]:
        """Make calls as `map` does; what concerns one call alone stands in the results.

        Other errors are raised; see `concerns_one`.
        """
        return self._map(calls, what, concerns_one)

    def _map(
        self, calls: Sequence[Call[Any]], what: str, spared: Callable[[BaseException], bool]
    ) -> list[Any]:
        if callable(calls):
            raise GraphError(
                "the context takes calls: context.map([call(function, name=value), ...], 'tile')"
            )
        results = [
            self.journal.find(call.function, call.arguments) if self.journal else None
            for call in calls
        ]
        running = {
            self.executor.submit(call.function, **call.arguments): number
            for number, call in enumerate(calls)
            if results[number] is None
        }
        done = len(calls) - len(running)
        if running:
            self.progress(self.stage_name, done / len(calls), f"{what} {done}/{len(calls)}")

        def cancel_all() -> None:
            for future in running:
                future.cancel()

        try:
            with self.cancellation.ends(cancel_all):
                for future in as_completed(running):
                    number = running[future]
                    error = future.exception()
                    if error is not None and spared(error):
                        if not isinstance(error, ContimgError):
                            _log.error("unforeseen error", stage=self.stage_name, exc_info=error)
                        results[number] = error
                        continue
                    results[number] = future.result()
                    if self.journal is not None:
                        call = calls[number]
                        self.journal.keep(call.function, call.arguments, results[number])
                    done += 1
                    self.progress(self.stage_name, done / len(calls), f"{what} {done}/{len(calls)}")
        finally:
            cancel_all()
        return results


@dataclass(frozen=True)
class PipelineContext(StageContext):
    """Root directory, services and initial artifacts of a run.

    Attributes
    ----------
    inputs : sequence of object
        Artifacts, each of a class of its own.

    Raises
    ------
    GraphError
        If the inputs are no sequence of artifacts, or two are of one class.
    """

    inputs: Sequence[object] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.inputs, Mapping):
            raise GraphError(
                "inputs are artifacts and have no names: "
                "PipelineContext(root, [SubbandFiles(paths)])"
            )
        kinds = [type(one) for one in self.inputs]
        twice = sorted({kind.__name__ for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise GraphError(f"two inputs are {', '.join(twice)}; give one of each class")

    def with_inputs(self, *artifacts: object) -> "PipelineContext":
        """The same context with more artifacts to begin with."""
        return replace(self, inputs=(*self.inputs, *artifacts))

    def for_stage(self, name: str, seconds: Mapping[str, float]) -> StageContext:
        """Make the context of one stage of the run."""
        shared = {one.name: getattr(self, one.name) for one in fields(StageContext)}
        return StageContext(**{**shared, "stage_name": name, "seconds": seconds})


def concerns_one(error: BaseException) -> bool:
    """True of an error that says something of one piece of work, foreseen or not.

    What the machine, its disks or the request are to blame for concerns all of them. A damaged
    file ends the run too: it can be made again, which is better than to go on without its tile.
    """
    if disk_failed(error):
        return False
    return isinstance(error, Exception) and not isinstance(
        error,
        RetryableError
        | BadInputError
        | UsageError
        | NothingToDo
        | CancelledRunError
        | StaleClaimError
        | OSError
        | MemoryError
        | BrokenExecutor,
    )


def _nothing(_: BaseException) -> bool:
    return False


def without_failures(
    names: Sequence[str], results: Sequence[Result | Exception]
) -> tuple[tuple[Result, ...], dict[str, str]]:
    """Split what `StageContext.map_sparing` gives into results and reasons of failures.

    Raises
    ------
    ContimgError
        The first, if there is nothing else.
    """
    errors = {n: r for n, r in zip(names, results, strict=True) if isinstance(r, Exception)}
    if errors and len(errors) == len(results):
        raise next(iter(errors.values()))
    good = tuple(result for result in results if not isinstance(result, Exception))
    return good, {name: reason(error) for name, error in errors.items()}


def reason(error: Exception) -> str:
    """What is said of a failure; one that nobody foresaw has its kind with it."""
    if isinstance(error, ContimgError):
        return str(error)
    return f"unforeseen {type(error).__name__}: {' '.join(str(error).split())}"
