"""Column types for paths: a path below the root is stored relative to the root.

A root that is moved or copied therefore refers to its own files, whatever it was called when its
rows were written.
"""

import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import JSON, Dialect, Engine, String
from sqlalchemy.types import TypeDecorator

MARK = "{root}"
"""Stands for the root at the beginning of a stored path."""
_ROOT = "contimg_root"
"""Attribute of an engine's dialect: the types of columns know nothing else of their database."""


def set_root(engine: Engine, root: Path) -> None:
    """Let the columns of an engine refer to a root directory."""
    setattr(engine.dialect, _ROOT, os.path.abspath(root))


class RootedPath(TypeDecorator[str]):
    """A path as text."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace the root by the mark."""
        root = getattr(dialect, _ROOT, None)
        return value if root is None or value is None else _relative(value, root)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace the mark by the root."""
        root = getattr(dialect, _ROOT, None)
        return value if root is None or value is None else _absolute(value, root)


class RootedJson(TypeDecorator[object]):
    """JSON values, among them paths."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> object:
        """Replace the root by the mark in every string that is a path below it."""
        root = getattr(dialect, _ROOT, None)
        return value if root is None else _in_strings(value, lambda one: _relative(one, root))

    def process_result_value(self, value: object, dialect: Dialect) -> object:
        """Replace the mark by the root."""
        root = getattr(dialect, _ROOT, None)
        return value if root is None else _in_strings(value, lambda one: _absolute(one, root))


def _relative(value: str, root: str) -> str:
    inside = value == root or value.startswith(f"{root}/")
    return MARK + value[len(root) :] if inside else value


def _absolute(value: str, root: str) -> str:
    return root + value[len(MARK) :] if value.startswith(MARK) else value


def _in_strings(value: object, change: Callable[[str], str]) -> object:
    """A JSON value with every string in it changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _in_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_in_strings(item, change) for item in value]
    return value
