"""Leaving the processor to others, also to those of other sessions.

Linux shares the processor among sessions first (autogroup, sched(7)), and only within one by
niceness.
"""

import contextlib
import os
from pathlib import Path


def make_session_nice(niceness: int, pid: int | str = "self") -> None:
    """Let the whole session that a process leads yield to others, where the system can."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def extend_to_session() -> None:
    """Let this process's niceness count against programs of other sessions too.

    A nice process whose session is not takes a session of its own, and makes that as nice.
    """
    niceness = os.nice(0)
    if niceness <= 0 or _session_niceness() == niceness:
        return
    try:
        os.setsid()
    except PermissionError:
        # The first of a shell's job: its session is the user's.
        return
    make_session_nice(niceness)


def _session_niceness() -> int:
    try:
        return int(Path("/proc/self/autogroup").read_text().rsplit(maxsplit=1)[-1])
    except (OSError, ValueError):
        return 0
