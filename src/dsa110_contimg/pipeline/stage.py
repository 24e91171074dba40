"""What a stage is: a step that declares the artifacts it takes and gives.

An artifact is an object of a class of its own, usually a frozen dataclass; the class is its name.
The parameters of `run` after the context are what a stage takes, and its return type is what it
gives. A parameter with a default value is optional. A stage of your own is a class of this form::

    @dataclass(frozen=True)
    class Brightest:
        jy: float

    class BrightestPixel(Stage):
        def run(self, context: StageContext, imaged: ImagedTiles) -> Brightest:
            return Brightest(max(tile.peak_jy for tile in imaged.tiles))
"""

import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any

from dsa110_contimg.errors import GraphError
from dsa110_contimg.pipeline.context import StageContext

_FORM = (
    "write 'def run(self, context: StageContext, imaged: ImagedTiles) -> Brightest', with a class "
    "for each artifact; see dsa110_contimg/pipeline/stage.py"
)


class Stage(ABC):
    """One step of a pipeline."""

    @abstractmethod
    def run(self, context: StageContext, /, *args: Any, **artifacts: Any) -> Any:
        """Do the work.

        Parameters
        ----------
        context : StageContext
        **artifacts
            In a stage: parameters whose types are classes of artifacts.

        Returns
        -------
        object, tuple of objects or None
            In a stage: one artifact, a tuple of several, or none.

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


@dataclass(frozen=True)
class StageSignature:
    """The artifacts of a stage.

    Attributes
    ----------
    required, optional : mapping of str to type
        What it takes, by the name of the parameter.
    outputs : tuple of type
        What it gives.
    """

    required: Mapping[str, type]
    optional: Mapping[str, type]
    outputs: tuple[type, ...]


def signature_of(stage: Stage) -> StageSignature:
    """Read what a stage declares.

    Raises
    ------
    GraphError
        If a parameter or the return value has no class of an artifact.
    """
    run, name = type(stage).run, type(stage).__name__
    try:
        types = typing.get_type_hints(run)
    except NameError as error:
        raise GraphError(f"{name}.run: {error}; import it where the program runs") from None
    parameters = list(inspect.signature(run).parameters.values())[2:]
    required: dict[str, type] = {}
    optional: dict[str, type] = {}
    for parameter in parameters:
        taken = optional if parameter.default is not parameter.empty else required
        taken[parameter.name] = _taken(types.get(parameter.name), name, parameter.name)
    return StageSignature(required, optional, _given(types.get("return"), name))


def _taken(annotation: object, stage: str, parameter: str) -> type:
    """Class of the artifact of a parameter, which may be None too."""
    either = typing.get_origin(annotation) in (UnionType, typing.Union)
    kinds = [kind for kind in typing.get_args(annotation) if kind is not NoneType]
    kind = kinds[0] if either and len(kinds) == 1 else annotation
    return _artifact(kind, stage, f"parameter {parameter!r}")


def _given(annotation: object, stage: str) -> tuple[type, ...]:
    """Classes of the artifacts of a return type: one, a tuple of several, or none."""
    several = typing.get_origin(annotation) is tuple
    kinds = typing.get_args(annotation) if several else (annotation,)
    return tuple(_artifact(kind, stage, "return value") for kind in kinds if kind is not NoneType)


def _artifact(kind: object, stage: str, what: str) -> type:
    foreign = ("builtins", "collections.abc", "typing")
    if not isinstance(kind, type) or typing.get_origin(kind) or kind.__module__ in foreign:
        raise GraphError(f"{stage}.run: the {what} has no class of an artifact; {_FORM}")
    return kind
