"""Check a graph of stages, then run it once.

Everything that can be known before is checked before: names, cycles, declared inputs. A run fails
at once: what has not begun is skipped, nothing is retried.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any

from dsa110_contimg.errors import CancelledRunError, GraphError
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.stage import Stage, StageDefinition

__all__ = [
    "PipelineContext",
    "PipelineOrchestrator",
    "PipelineResult",
    "Stage",
    "StageDefinition",
    "StageOutcome",
    "StageStatus",
]


class StageStatus(StrEnum):
    """What became of a stage."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StageOutcome:
    """What one stage did.

    Attributes
    ----------
    name : str
    status : StageStatus
    seconds : float
    outputs : mapping
        Artifacts it made.
    error : Exception or None
    """

    name: str
    status: StageStatus
    seconds: float = 0.0
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(frozen=True)
class PipelineResult:
    """Outcome of a run.

    Attributes
    ----------
    outcomes : tuple of StageOutcome
        In the order of the graph.
    artifacts : mapping
        Inputs and everything that was made.
    """

    outcomes: tuple[StageOutcome, ...]
    artifacts: Mapping[str, Any]

    @property
    def success(self) -> bool:
        """True if every stage is done."""
        return all(outcome.status is StageStatus.DONE for outcome in self.outcomes)

    @property
    def error(self) -> Exception | None:
        """The first failure."""
        return next((o.error for o in self.outcomes if o.error is not None), None)

    def __getitem__(self, name: str) -> Any:
        return self.artifacts[name]

    def raise_on_failure(self) -> "PipelineResult":
        """Raise the failure, if there is one."""
        if self.error is not None:
            raise self.error
        return self


class PipelineOrchestrator:
    """Runs stages in the order of their dependencies, independent ones side by side.

    Parameters
    ----------
    stages : sequence of StageDefinition

    Raises
    ------
    GraphError
        For a name used twice, an unknown dependency or a cycle.
    """

    def __init__(self, stages: Sequence[StageDefinition]):
        self._stages = {definition.name: definition for definition in stages}
        if len(self._stages) != len(stages):
            names = [definition.name for definition in stages]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise GraphError(f"stage name used twice: {', '.join(twice)}")
        for definition in stages:
            unknown = [name for name in definition.depends_on if name not in self._stages]
            if unknown:
                raise GraphError(
                    f"stage {definition.name!r} depends on {', '.join(map(repr, unknown))}, "
                    f"which is not in the graph ({', '.join(self._stages)})"
                )
        try:
            self.order = tuple(self._sorter().static_order())
        except CycleError as error:
            cycle = ", ".join(name for name in self._stages if name in error.args[1])
            raise GraphError(f"the stages {cycle} depend on each other in a cycle") from None

    def check(self, context: PipelineContext) -> None:
        """Check that every declared input is given or made by an earlier stage.

        Raises
        ------
        GraphError
            Naming the stage and its missing input.
        """
        makers = {out: name for name, d in self._stages.items() for out in d.stage.outputs}
        ancestors: dict[str, set[str]] = {}
        for name in self.order:
            parents = self._stages[name].depends_on
            ancestors[name] = set(parents).union(*(ancestors[parent] for parent in parents))
            for needed in self._stages[name].stage.inputs:
                if needed in context.inputs or makers.get(needed) in ancestors[name]:
                    continue
                hint = (
                    f"stage {makers[needed]!r} makes it: add that to depends_on"
                    if needed in makers
                    else f"give it in the context's inputs (given: "
                    f"{', '.join(context.inputs) or 'none'})"
                )
                raise GraphError(f"stage {name!r} needs {needed!r}; {hint}")

    def run(self, context: PipelineContext) -> PipelineResult:
        """Run the graph once.

        Errors of stages are in the result; an error in the graph itself is raised
        before anything runs. The context tells each stage as `stage_seconds` how long those before
        it took.
        """
        self.check(context)
        outcomes: dict[str, StageOutcome] = {}
        running: dict[Future[StageOutcome], str] = {}
        with (
            ThreadPoolExecutor(max(1, len(self._stages)), "stage") as threads,
            contextlib.ExitStack() as undo,
        ):
            # Ctrl-C: the stages' calls are ended, or their threads would be waited for.
            undo.callback(context.cancellation.cancel)
            sorter = self._sorter()
            sorter.prepare()
            failed = False
            while running or (sorter.is_active() and not failed):
                for name in () if failed else sorter.get_ready():
                    running[threads.submit(self._run_stage, name, context)] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name, outcome = running.pop(future), future.result()
                    outcomes[name] = outcome
                    sorter.done(name)
                    failed = failed or outcome.status is StageStatus.FAILED
                    seconds = {name: done.seconds for name, done in outcomes.items()}
                    context = context.with_artifacts({**outcome.outputs, "stage_seconds": seconds})
            undo.pop_all()
        skipped = partial(StageOutcome, status=StageStatus.SKIPPED)
        ordered = tuple(outcomes.get(name) or skipped(name) for name in self.order)
        return PipelineResult(ordered, dict(context.inputs))

    def text(self) -> str:
        """The graph for people: a line a stage, in the order of running."""
        lines = []
        for number, name in enumerate(self.order, start=1):
            definition = self._stages[name]
            needs = ", ".join(definition.stage.inputs) or "nothing"
            makes = ", ".join(definition.stage.outputs) or "nothing"
            after = f"  after {', '.join(definition.depends_on)}" if definition.depends_on else ""
            lines.append(f"{number:2d} {name:12} needs {needs}; makes {makes}{after}")
        return "\n".join(lines)

    def edges(self) -> dict[str, tuple[str, ...]]:
        """Each stage, in the order of running, with those it follows."""
        return {name: tuple(self._stages[name].depends_on) for name in self.order}

    def _sorter(self) -> TopologicalSorter[str]:
        return TopologicalSorter({name: one.depends_on for name, one in self._stages.items()})

    def _run_stage(self, name: str, context: PipelineContext) -> StageOutcome:
        stage = self._stages[name].stage
        start = time.monotonic()
        context.progress(name, 0.0, "started")
        try:
            context.cancellation.check()
            outputs = dict(stage.run(context.for_stage(name)))
            missing = [out for out in stage.outputs if out not in outputs]
            if missing:
                raise GraphError(f"stage {name!r} declared {', '.join(missing)} but made none")
        except Exception as failure:  # noqa: BLE001 (a supervisor: a stage may be a user's own)
            # Calls that were ended fail in many ways.
            cancelled = CancelledRunError("the run was cancelled")
            error = cancelled if context.cancellation.is_cancelled else failure
            error.add_note(f"in stage {name!r}")
            return StageOutcome(name, StageStatus.FAILED, time.monotonic() - start, {}, error)
        seconds = time.monotonic() - start
        context.progress(name, 1.0, f"done in {seconds:.1f} s")
        return StageOutcome(name, StageStatus.DONE, seconds, outputs)
