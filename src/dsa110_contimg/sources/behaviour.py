"""What sources do."""

from enum import StrEnum


class Behaviour(StrEnum):
    """What a source does."""

    UNKNOWN = "unknown"
    CONSTANT = "constant"
    VARIABLE = "variable"
    TRANSIENT = "transient"
    VANISHED = "vanished"
