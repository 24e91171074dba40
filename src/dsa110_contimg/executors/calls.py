"""Calls that another process may make."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A function and its arguments.

    Attributes
    ----------
    function : callable
        Importable by name.
    arguments : mapping
        By name. A path that does not exist yet may be a `fresh.FreshPath`, and one on the own disk
        of a machine an `own_disk.OnHost`.
    """

    function: Callable[..., Result]
    arguments: Mapping[str, object]

    def __call__(self) -> Result:
        """Make it."""
        return self.function(**self.arguments)


def arguments_of(
    function: Callable[Parameters, object], /, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Mapping[str, object]:
    """Arguments of a call by name; type checkers hold them against the function's signature.

    Raises
    ------
    TypeError
        If the function does not take them.
    """
    bound = inspect.signature(function).bind(*args, **kwargs)
    return {**dict(zip(bound.arguments, args, strict=False)), **kwargs}


def call(
    function: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Call[Result]:
    """Describe a call without making it; see `arguments_of`."""
    return Call(function, arguments_of(function, *args, **kwargs))
