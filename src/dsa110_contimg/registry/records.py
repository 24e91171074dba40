"""Results of stages as JSON and back, so that a row can give a stage its input."""

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_json(record: Any) -> dict[str, Any]:
    """A frozen result as plain JSON values."""
    value = _adapter(type(record)).dump_python(record, mode="json")
    assert isinstance(value, dict)
    return value


def from_json(kind: type[T], value: dict[str, Any]) -> T:
    """A frozen result from its JSON values."""
    made: T = _adapter(kind).validate_python(value)
    return made
