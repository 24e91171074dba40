"""Check a graph of stages, then run it once.

Everything that can be known before is checked before: names, cycles, artifacts. A run fails
at once: what has not begun is skipped, nothing is retried.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar, cast

from dsa110_contimg.errors import CancelledRunError, GraphError
from dsa110_contimg.pipeline.context import PipelineContext, StageContext
from dsa110_contimg.pipeline.stage import Stage, StageDefinition, signature_of

__all__ = [
    "PipelineContext",
    "PipelineOrchestrator",
    "PipelineResult",
    "Stage",
    "StageContext",
    "StageDefinition",
    "StageOutcome",
    "StageStatus",
]

Artifact = TypeVar("Artifact")


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
    outputs : mapping of type to object
        Artifacts it made, by their classes.
    error : Exception or None
    """

    name: str
    status: StageStatus
    seconds: float = 0.0
    outputs: Mapping[type, object] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(frozen=True)
class PipelineResult:
    """Outcome of a run.

    Attributes
    ----------
    outcomes : tuple of StageOutcome
        In the order of the graph.
    artifacts : mapping of type to object
        Inputs and everything that was made, by their classes; of several of one class the last.
    """

    outcomes: tuple[StageOutcome, ...]
    artifacts: Mapping[type, object]

    @property
    def success(self) -> bool:
        """True if every stage is done."""
        return all(outcome.status is StageStatus.DONE for outcome in self.outcomes)

    @property
    def error(self) -> Exception | None:
        """The first failure."""
        return next((o.error for o in self.outcomes if o.error is not None), None)

    def __getitem__(self, kind: type[Artifact]) -> Artifact:
        """The artifact of a class.

        Raises
        ------
        GraphError
            If the run has none.
        """
        found = self.get(kind)
        if found is None:
            known = ", ".join(one.__name__ for one in self.artifacts) or "none"
            raise GraphError(
                f"the run has no artifact {getattr(kind, '__name__', repr(kind))}; give its class, "
                f"one of: {known}"
            )
        return found

    def get(self, kind: type[Artifact]) -> Artifact | None:
        """The artifact of a class, or None."""
        return cast(Artifact | None, self.artifacts.get(kind))

    def raise_on_failure(self) -> "PipelineResult":
        """Raise the failure, if there is one."""
        if self.error is not None:
            raise self.error
        return self


class PipelineOrchestrator:
    """Runs stages in the order of their dependencies, independent ones side by side.

    A stage takes an artifact from the last stage before it that makes one, or else from the inputs
    of the run.

    Parameters
    ----------
    stages : sequence of StageDefinition

    Raises
    ------
    GraphError
        For a name used twice, an unknown dependency, a cycle, a stage that does not declare its
        artifacts, or an artifact that two stages make beside each other.
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
        self._signatures = {name: signature_of(self._stages[name].stage) for name in self.order}
        self._ancestors: dict[str, set[str]] = {}
        for name in self.order:
            parents = self._stages[name].depends_on
            self._ancestors[name] = set(parents).union(*(self._ancestors[one] for one in parents))
        self._makers = {name: self._makers_for(name) for name in self.order}

    def check(self, context: PipelineContext) -> None:
        """Check that every required artifact is given or made by an earlier stage.

        Raises
        ------
        GraphError
            Naming the stage and what it lacks.
        """
        given = {type(one) for one in context.inputs}
        for name in self.order:
            for kind in self._signatures[name].required.values():
                if kind in given or kind in self._makers[name]:
                    continue
                makers = [one for one in self.order if kind in self._signatures[one].outputs]
                known = ", ".join(one.__name__ for one in given) or "none"
                hint = (
                    f"stage {makers[0]!r} makes it: add that to depends_on"
                    if makers
                    else f"give one in the context's inputs (given: {known})"
                )
                raise GraphError(f"stage {name!r} needs {kind.__name__}; {hint}")

    def run(self, context: PipelineContext) -> PipelineResult:
        """Run the graph once.

        Errors of stages are in the result; an error in the graph itself is raised before anything
        runs.
        """
        self.check(context)
        given = {type(one): one for one in context.inputs}
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
                    seconds = {one: outcome.seconds for one, outcome in outcomes.items()}
                    inputs = self._inputs(name, given, outcomes)
                    own = context.for_stage(name, seconds)
                    running[threads.submit(self._run_stage, name, own, inputs)] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name, outcome = running.pop(future), future.result()
                    outcomes[name] = outcome
                    sorter.done(name)
                    failed = failed or outcome.status is StageStatus.FAILED
            undo.pop_all()
        skipped = partial(StageOutcome, status=StageStatus.SKIPPED)
        ordered = tuple(outcomes.get(name) or skipped(name) for name in self.order)
        artifacts = dict(given)
        for outcome in ordered:
            artifacts |= outcome.outputs
        return PipelineResult(ordered, artifacts)

    def text(self) -> str:
        """The graph for people: a line per stage, in the order of running."""
        lines = []
        for number, name in enumerate(self.order, start=1):
            signature, after = self._signatures[name], ", ".join(self._stages[name].depends_on)
            parts = [
                f"needs {_names(signature.required.values()) or 'nothing'}",
                f"takes {_names(signature.optional.values())}" if signature.optional else "",
                f"makes {_names(signature.outputs) or 'nothing'}",
                f"after {after}" if after else "",
            ]
            lines.append(f"{number:2d} {name:12} {'; '.join(part for part in parts if part)}")
        return "\n".join(lines)

    def edges(self) -> dict[str, tuple[str, ...]]:
        """Each stage, in the order of running, with those it follows."""
        return {name: tuple(self._stages[name].depends_on) for name in self.order}

    def _sorter(self) -> TopologicalSorter[str]:
        return TopologicalSorter({name: one.depends_on for name, one in self._stages.items()})

    def _makers_for(self, name: str) -> dict[type, str]:
        """The stage that each artifact of a stage comes from, where a stage makes it."""
        signature = self._signatures[name]
        makers: dict[type, str] = {}
        for kind in (*signature.required.values(), *signature.optional.values()):
            before = [a for a in self._ancestors[name] if kind in self._signatures[a].outputs]
            last = [a for a in before if not any(a in self._ancestors[b] for b in before)]
            if len(last) > 1:
                raise GraphError(
                    f"stage {name!r} takes {kind.__name__}, which the stages "
                    f"{' and '.join(sorted(last))} make beside each other; let it depend on one"
                )
            if last:
                makers[kind] = last[0]
        return makers

    def _inputs(
        self, name: str, given: Mapping[type, object], outcomes: Mapping[str, StageOutcome]
    ) -> dict[str, object]:
        """Arguments for a stage, by the names of its parameters."""
        signature, inputs = self._signatures[name], {}
        for parameter, kind in {**signature.required, **signature.optional}.items():
            if kind in self._makers[name]:
                inputs[parameter] = outcomes[self._makers[name][kind]].outputs[kind]
            elif kind in given:
                inputs[parameter] = given[kind]
        return inputs

    def _run_stage(
        self, name: str, context: StageContext, inputs: Mapping[str, object]
    ) -> StageOutcome:
        start = time.monotonic()
        context.progress(name, 0.0, "started")
        try:
            context.cancellation.check()
            made = self._stages[name].stage.run(context, **inputs)
            several = made if type(made) is tuple else () if made is None else (made,)
            outputs = {type(one): one for one in several}
            declared = self._signatures[name].outputs
            if set(outputs) != set(declared):
                raise GraphError(
                    f"stage {name!r} declares {_names(declared) or 'no artifact'} but made "
                    f"{_names(outputs) or 'none'}"
                )
        except Exception as failure:  # noqa: BLE001 (a supervisor: a stage may be a user's own)
            # Calls that were ended fail in many ways.
            cancelled = CancelledRunError("the run was cancelled")
            error = cancelled if context.cancellation.is_cancelled else failure
            error.add_note(f"in stage {name!r}")
            return StageOutcome(name, StageStatus.FAILED, time.monotonic() - start, {}, error)
        seconds = time.monotonic() - start
        context.progress(name, 1.0, f"done in {seconds:.1f} s")
        return StageOutcome(name, StageStatus.DONE, seconds, outputs)


def _names(kinds: Iterable[type]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)
