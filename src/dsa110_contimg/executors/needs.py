"""What a call takes of a machine, declared where the function is: one core and so much memory."""

from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])
_UNDECLARED_GB = 1.0


def needs(memory_gb: float) -> Callable[[_Function], _Function]:
    """Declare a function's peak of memory on a full-size tile, as the benchmark measures it."""

    def declared(function: _Function) -> _Function:
        function.memory_gb = memory_gb  # type: ignore[attr-defined]
        return function

    return declared


def memory_gb(function: Callable[..., object]) -> float:
    """Gigabytes that a call of a function may take."""
    return float(getattr(function, "memory_gb", _UNDECLARED_GB))
