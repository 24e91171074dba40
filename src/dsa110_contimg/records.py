"""Results of stages as JSON and back, so that a row can give a stage its input."""

import math
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter

STORED = "stored"
"""Key of the validation context that tells stored values from what a user gives."""

T = TypeVar("T")
JsonObject = dict[str, JsonValue]
"""A record as a database or a file keeps it."""

_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(record: object) -> JsonObject:
    """A frozen result as plain JSON values."""
    return {
        key: _plain(value)
        for key, value in _adapter(type(record)).dump_python(record, mode="json").items()
    }


def _plain(value: JsonValue) -> JsonValue:
    """What every database's JSON holds: it has no NaN, no infinity and no zero byte."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.replace("\0", "") if isinstance(value, str) else value


def from_json(kind: type[T], value: object) -> T:
    """A frozen result from its JSON values."""
    made: T = _adapter(kind).validate_python(value, context={STORED: True})
    return made
