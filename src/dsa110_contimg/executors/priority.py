"""Priorities of programs that compute on one machine."""

from enum import IntEnum

_PATIENCE_S = 60.0
"""After each such time a call that waits counts as one priority higher."""


class Priority(IntEnum):
    """Order in which programs get slots; the lowest value goes first."""

    CONVERSION = 0
    STREAMING = 1
    BATCH = 2


def aged(priority: float, waited_s: float) -> float:
    """Priority of a call that has waited, so that nobody starves."""
    return priority - waited_s // _PATIENCE_S
