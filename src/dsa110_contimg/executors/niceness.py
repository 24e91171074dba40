"""Leaving the processor to others, also to those of other sessions.

Linux shares the processor among sessions first (autogroup, sched(7)), and only within one by
niceness.
"""

import os
import random
import time
from pathlib import Path

_TRIES = 10
_AUTOGROUP = "/proc/{pid}/autogroup"


def make_session_nice(niceness: int, pid: int | str = "self") -> None:
    """Let the whole session that a process leads yield to others, where the system can."""
    for _ in range(_TRIES):
        try:
            Path(_AUTOGROUP.format(pid=pid)).write_text(str(niceness))
        except BlockingIOError:
            # The kernel takes one such change in a tenth of a second from all users together.
            time.sleep(random.uniform(0.1, 0.3))
        except OSError:
            return
        else:
            return


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
        # Empty for the session that the machine began with.
        return int(Path(_AUTOGROUP.format(pid="self")).read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return 0
