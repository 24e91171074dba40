"""What a stage is: a step with declared inputs and outputs.

A stage of your own is a class of this form::

    class BrightestPixel(Stage):
        inputs = ("tile_images",)
        outputs = ("brightest_jy",)

        def run(self, context):
            return {"brightest_jy": max(image.peak_jy for image in context["tile_images"])}
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dsa110_contimg.pipeline.context import PipelineContext


class Stage(ABC):
    """One step of a pipeline.

    Attributes
    ----------
    inputs : tuple of str
        Artifacts it reads; each must be given at the start or made by a stage it depends on.
    outputs : tuple of str
        Artifacts it makes.
    """

    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Do the work and return the artifacts by name.

        Raises
        ------
        ContimgError
            With what is wrong and what to do.
        """


@dataclass(frozen=True)
class StageDefinition:
    """A stage's place in a graph.

    Attributes
    ----------
    name : str
    stage : Stage
    depends_on : sequence of str
        Names of the stages that must be done first.
    """

    name: str
    stage: Stage
    depends_on: Sequence[str] = field(default_factory=tuple)
