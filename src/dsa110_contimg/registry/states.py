"""States of files, tiles, groups, mosaics and jobs, and how they may follow each other.

docs/states.md draws them. Rows refuse every other change (`registry.models`).
"""

from collections.abc import Mapping
from enum import StrEnum


class FileState(StrEnum):
    """State of a sub-band file."""

    UNREADABLE = "unreadable"
    REGISTERED = "registered"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class TileState(StrEnum):
    """State of a tile."""

    COLLECTING = "collecting"
    READY = "ready"
    CONVERTING = "converting"
    CONVERTED = "converted"
    REJECTED = "rejected"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class GroupState(StrEnum):
    """State of a mosaic group."""

    READY = "ready"
    PROCESSING = "processing"
    PUBLISHED = "published"
    HELD = "held"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class JobState(StrEnum):
    """State of a batch job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class MosaicState(StrEnum):
    """State of a mosaic."""

    STAGED = "staged"
    PUBLISHED = "published"
    HELD = "held"
    DAMAGED = "damaged"


class CrossmatchState(StrEnum):
    """State of the cross-match of a mosaic."""

    OWED = "owed"
    DONE = "done"
    FAILED = "failed"


_FILES = {
    FileState.UNREADABLE: {FileState.REGISTERED, FileState.DUPLICATE, FileState.REJECTED},
    # A file that has changed is read again.
    FileState.REGISTERED: {FileState.UNREADABLE, FileState.DUPLICATE, FileState.REJECTED},
    FileState.DUPLICATE: {FileState.UNREADABLE, FileState.REGISTERED, FileState.REJECTED},
    FileState.REJECTED: {FileState.UNREADABLE, FileState.REGISTERED, FileState.DUPLICATE},
}
_TILES = {
    TileState.COLLECTING: {TileState.READY, TileState.REJECTED},
    TileState.READY: {TileState.CONVERTING, TileState.QUARANTINED},
    TileState.CONVERTING: {
        TileState.CONVERTED,
        TileState.FAILED,
        TileState.QUARANTINED,
        TileState.READY,
    },
    # Its Measurement Set is lost: it is converted again, if its sub-band files are there.
    TileState.CONVERTED: {TileState.READY, TileState.QUARANTINED},
    # Another sub-band file has come.
    TileState.REJECTED: {TileState.COLLECTING},
    TileState.FAILED: {TileState.CONVERTING, TileState.READY, TileState.QUARANTINED},
    TileState.QUARANTINED: {TileState.READY},
}
_GROUPS = {
    # The file check finds published mosaics that an older database does not know.
    GroupState.READY: {GroupState.PROCESSING, GroupState.QUARANTINED, GroupState.PUBLISHED},
    GroupState.PROCESSING: {
        GroupState.PUBLISHED,
        GroupState.HELD,
        GroupState.FAILED,
        GroupState.QUARANTINED,
        GroupState.READY,
    },
    GroupState.PUBLISHED: {GroupState.HELD, GroupState.QUARANTINED},
    GroupState.HELD: {GroupState.READY, GroupState.QUARANTINED, GroupState.PUBLISHED},
    GroupState.FAILED: {
        GroupState.PROCESSING,
        GroupState.READY,
        GroupState.QUARANTINED,
        GroupState.PUBLISHED,
    },
    GroupState.QUARANTINED: {GroupState.READY, GroupState.PUBLISHED},
}
_MOSAICS = {
    MosaicState.STAGED: {MosaicState.PUBLISHED, MosaicState.HELD, MosaicState.DAMAGED},
    MosaicState.PUBLISHED: {MosaicState.HELD, MosaicState.DAMAGED},
    # Made anew, or published by hand.
    MosaicState.HELD: {MosaicState.STAGED, MosaicState.PUBLISHED, MosaicState.DAMAGED},
    MosaicState.DAMAGED: {MosaicState.STAGED, MosaicState.PUBLISHED},
}
_CROSSMATCHES = {
    CrossmatchState.OWED: {CrossmatchState.DONE, CrossmatchState.FAILED},
    # Its catalogue is lost, or its mosaic is made anew.
    CrossmatchState.DONE: {CrossmatchState.OWED},
    CrossmatchState.FAILED: {CrossmatchState.OWED, CrossmatchState.DONE},
}
_JOBS = {
    JobState.QUEUED: {JobState.RUNNING, JobState.CANCELLED},
    JobState.RUNNING: {JobState.DONE, JobState.FAILED, JobState.CANCELLED},
    JobState.DONE: set[JobState](),
    JobState.FAILED: set[JobState](),
    JobState.CANCELLED: set[JobState](),
}

TRANSITIONS: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    kind: {before: frozenset(after) for before, after in table.items()}
    for kind, table in (
        (FileState, _FILES),
        (TileState, _TILES),
        (GroupState, _GROUPS),
        (MosaicState, _MOSAICS),
        (CrossmatchState, _CROSSMATCHES),
        (JobState, _JOBS),
    )
}
"""States that may follow each state, for each kind."""


def check_change(before: StrEnum, after: StrEnum) -> None:
    """Check that a state may follow another, or itself.

    Raises
    ------
    ValueError
        If it may not: the program has an error.
    """
    if after is not before and after not in TRANSITIONS[type(after)][before]:
        raise ValueError(f"{type(after).__name__}: {after} may not follow {before}")
