"""What a run is given: where to work, what to start from, who computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsa110_contimg.pipeline.executors import Executor, InlineExecutor
from dsa110_contimg.telescope import DSA110, Telescope

Progress = Callable[[str, float, str], None]
"""Called with a stage's name, its fraction done and what it is doing."""


def _silent(stage: str, fraction: float, message: str) -> None:
    return None


@dataclass(frozen=True)
class PipelineContext:
    """Parameters and artifacts of one run.

    Attributes
    ----------
    root : Path
        Everything is written below it.
    inputs : mapping
        Artifacts by name; grows as stages finish.
    executor : Executor
        Runs what is independent; inline without one.
    telescope : Telescope
    progress : callable
    stage_name : str
        Of the running stage, for its progress.
    """

    root: Path
    inputs: Mapping[str, Any] = field(default_factory=dict)
    executor: Executor = field(default_factory=InlineExecutor)
    telescope: Telescope = DSA110
    progress: Progress = _silent
    stage_name: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.inputs[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An artifact, or a default if there is none of that name."""
        return self.inputs.get(name, default)

    def with_artifacts(self, artifacts: Mapping[str, Any]) -> "PipelineContext":
        """The same context with more artifacts."""
        return replace(self, inputs={**self.inputs, **artifacts})

    def for_stage(self, name: str) -> "PipelineContext":
        """The same context inside a stage."""
        return replace(self, stage_name=name)

    def map(
        self, function: Callable[..., Any], calls: list[dict[str, Any]], what: str
    ) -> list[Any]:
        """Call a function once per set of arguments on the executor, in order, with progress.

        Parameters
        ----------
        function : callable
            Importable by name, since another process may run it.
        calls : list of dict
            Keyword arguments of each call.
        what : str
            What one call makes, for the progress message.
        """
        futures = [self.executor.submit(function, **call) for call in calls]
        results = []
        try:
            for done, future in enumerate(futures, start=1):
                results.append(future.result())
                self.progress(self.stage_name, done / len(futures), f"{what} {done}/{len(futures)}")
        finally:
            for future in futures:
                future.cancel()
        return results
