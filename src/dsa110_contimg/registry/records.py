"""Results of stages as JSON and back, so that a row can give a stage its input."""

from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")

_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(record: Any) -> dict[str, Any]:
    """A frozen result as plain JSON values."""
    value: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json")
    return value


def from_json(kind: type[T], value: dict[str, Any]) -> T:
    """A frozen result from its JSON values."""
    made: T = _adapter(kind).validate_python(value)
    return made
