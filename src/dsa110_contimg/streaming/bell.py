"""Tells the mosaic daemon of this machine that a tile is new: it need not wait for its poll.

A bell that nobody hears is no loss: polling is the truth.
"""

import contextlib
import hashlib
import socket
import sys
from pathlib import Path


def _address(root: Path) -> str:
    """A name in Linux's abstract space: it has no file that could be left over."""
    return "\0dsa110-contimg-" + hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]


def ring(root: Path) -> None:
    """Wake whoever listens."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.sendto(b"r", _address(root))


def listen(root: Path) -> socket.socket | None:
    """Where rings arrive; None where that cannot be, or another daemon of this root listens."""
    if not sys.platform.startswith("linux"):
        return None
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.setblocking(False)
    try:
        bell.bind(_address(root))
    except OSError:
        bell.close()
        return None
    return bell
