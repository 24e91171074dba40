"""What the steps of a mosaic group gave, so that a daemon that was killed goes on where it was.

A step is known by its function and arguments, and by the machine's start: what was written before
a loss of power may not have reached the disk. A result counts as long as the files it names are
there. Fencing is not needed: equal steps give equal results, and only a claim's holder publishes.
"""

import contextlib
import hashlib
import json
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from dsa110_contimg import records
from dsa110_contimg.executors.fresh import FreshPath
from dsa110_contimg.executors.own_disk import this_host
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.steps import clear_steps, find_step, keep_step

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class GroupJournal:
    """The journal of one mosaic group.

    Parameters
    ----------
    registry : Registry
    group_id : str
    """

    def __init__(self, registry: Registry, group_id: str):
        self._registry = registry
        self._group_id = group_id

    def find(self, function: Callable[..., object], arguments: Mapping[str, object]) -> object:
        """The result of an equal call whose files are still there, or None."""
        kind, key = _result_type(function), _key(function, arguments)
        if kind is None or key is None:
            return None
        known = find_step(self._registry, self._group_id, key)
        if known is None:
            return None
        result: object = records.from_json(kind, known)
        return result if all(_is_there(path) for path in _paths(result)) else None

    def keep(
        self, function: Callable[..., object], arguments: Mapping[str, object], result: object
    ) -> None:
        """Remember a result."""
        key = _key(function, arguments)
        if key is None or _result_type(function) is None:
            return
        stage = function.__module__.rpartition(".")[2]
        keep_step(self._registry, self._group_id, key, stage, records.to_json(result))

    def clear(self) -> None:
        """Forget everything: the group is finished."""
        clear_steps(self._registry, self._group_id)


def _result_type(function: Callable[..., object]) -> type | None:
    kind = typing.get_type_hints(function).get("return")
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _key(function: Callable[..., object], arguments: Mapping[str, object]) -> str | None:
    """Checksum of a call, without the paths that it is to make up; None if it has no plain form."""
    given = {k: v for k, v in arguments.items() if not isinstance(v, FreshPath)}
    try:
        plain = to_jsonable_python(given)
    except PydanticSerializationError:
        return None
    call = [_boot(), function.__module__, function.__qualname__, plain]
    text = json.dumps(call, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _boot() -> str:
    """Which start of this machine it is, where the system tells."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def _paths(result: Any) -> Iterator[Path]:
    """Those that can be looked for from here; on other machines the executor does."""
    elsewhere = getattr(result, "host", "") not in ("", this_host())
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Path) and not elsewhere:
            yield value
        elif is_dataclass(value):
            yield from _paths(value)


def _is_there(path: Path) -> bool:
    """True if a file, or files that begin with it, exist."""
    return path.exists() or any(path.parent.glob(f"{path.name}*"))
