"""Leaving the processor to others, also to those of other sessions."""

import contextlib
import os
from pathlib import Path

_SESSION = Path("/proc/self/autogroup")


def extend_to_session() -> None:
    """Let this process's niceness count against programs of other sessions too.

    Linux shares the processor among sessions first (autogroup, sched(7)), and only within one by
    niceness. So a nice process takes a session of its own, and makes that as nice.
    """
    niceness = os.nice(0)
    if niceness <= 0:
        return
    if os.getsid(0) != os.getpid():
        try:
            os.setsid()
        except PermissionError:
            # The first of a shell's job: its session is the user's.
            return
    with contextlib.suppress(OSError):
        _SESSION.write_text(str(niceness))
