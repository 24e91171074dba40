"""How a program that runs for months keeps its memory."""

import ctypes

_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> None:
    """Let all threads allocate from few heaps; call it before there are threads.

    glibc gives each thread one of its own, up to eight a core. Those of short-lived threads fill
    up with holes: 20 MB within a thousand tiles.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _HEAPS)
