"""Many tiles, one image: a common grid, combination, and gates before it."""

from typing import get_args

from dsa110_contimg.errors import UsageError
from dsa110_contimg.mosaicking.options import Method

METHODS: tuple[str, ...] = get_args(Method)


def check_method(method: str) -> None:
    """Raise UsageError for an unknown method of combination."""
    if method not in METHODS:
        raise UsageError(f"unknown mosaic method {method!r}; choose one of {', '.join(METHODS)}")
