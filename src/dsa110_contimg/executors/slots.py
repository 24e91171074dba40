"""The machine's compute slots, shared by every program on it.

A slot is a file lock held by the process that computes, so a killed one frees it. Whoever waits
holds a ticket, also a locked file: conversion goes first, then streaming, then batch, and who has
waited long moves up, so that nobody starves. Batch begins only while fewer compute than there are
slots; the others do not wait for it to end, if there is memory, for it leaves them the processor.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from dsa110_contimg.executors.priority import Priority, aged

_POLL_S = 0.05
_SILENT_S = 10.0
"""A ticket that its process has not touched for so long does not hold up others."""
_MEMORY = Path("/proc/meminfo")
_SPARE_GB = 1.0
_GROWING_S = 30.0
"""Time after which a call has taken most of its memory."""
_START_TIME = 19
"""Field of /proc/PID/stat, counted after the name (proc(5))."""


@dataclass(frozen=True)
class _Ticket:
    path: Path
    priority: int
    since_ns: int

    @classmethod
    def parse(cls, path: Path) -> "_Ticket | None":
        """The ticket of a file, or None if it is not one."""
        parts = path.name.split("-")
        if len(parts) != 3 or not parts[0].isdigit() or not parts[1].isdigit():
            return None
        return cls(path, int(parts[0]), int(parts[1]))

    def rank(self, now_ns: int) -> tuple[float, int]:
        """Lower goes first."""
        return aged(self.priority, (now_ns - self.since_ns) / 1e9), self.since_ns


@contextlib.contextmanager
def machine_slot(
    slots_dir: Path,
    slots: int,
    priority: Priority = Priority.BATCH,
    still_waiting: Callable[[], None] = lambda: None,
    memory_gb: float = 0.0,
) -> Iterator[int]:
    """Hold one of the machine's slots while computing.

    Parameters
    ----------
    slots_dir : Path
        Where the locks lie.
    slots : int
    priority : Priority
    still_waiting : callable
        Called after each look that found none free, some twenty a second.
    memory_gb : float
        What the work may take: only with so much free does it begin beside batch work that would
        leave it no slot.

    Yields
    ------
    int
        Number of the slot.
    """
    waiting = slots_dir / "waiting"
    waiting.mkdir(parents=True, exist_ok=True)
    # The monotonic clock is the same for all processes of a machine.
    since_ns = time.monotonic_ns()
    mine = _Ticket(waiting / f"{int(priority)}-{since_ns}-{uuid4().hex}", int(priority), since_ns)
    ticket = FileLock(mine.path)
    ticket.acquire()
    try:
        while (found := _free_slot(slots_dir, slots, mine, memory_gb)) is None:
            # A lock cannot be waited for among several: ask again shortly.
            time.sleep(_POLL_S)
            with contextlib.suppress(FileNotFoundError):
                os.utime(mine.path)
            still_waiting()
    finally:
        mine.path.unlink(missing_ok=True)
        ticket.release()
    number, slot = found
    try:
        yield number
    finally:
        _holder(Path(slot.lock_file)).unlink(missing_ok=True)
        slot.release()


def _free_slot(
    slots_dir: Path, slots: int, mine: _Ticket, memory_gb: float
) -> tuple[int, FileLock] | None:
    """A slot, if it is this ticket's turn and one is free."""
    ours = [slots_dir / f"slot{number:02d}.lock" for number in range(slots)]
    batch = [slots_dir / f"batch{number:02d}.lock" for number in range(slots)]
    is_crowded = sum(map(_computes, (*ours, *batch))) >= slots
    if not _is_first(mine, is_crowded):
        return None
    if mine.priority >= Priority.BATCH:
        ours = batch
        if is_crowded:
            return None
    elif is_crowded:
        promised_gb = sum(map(_promised_gb, (*ours, *batch)))
        if _available_gb() < memory_gb + promised_gb + _SPARE_GB:
            return None
    for number, path in enumerate(ours):
        lock = FileLock(path)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            _holder(path).write_text(f"{os.getpid()} {_began(os.getpid())} {memory_gb}")
            return number, lock
    return None


def _holder(path: Path) -> Path:
    """File in which the holder of a slot writes its process, start time and memory."""
    return path.with_suffix(".holder")


def _computes(path: Path) -> bool:
    """True if a process holds a slot; its lock is not touched.

    A nice process that tries the lock may lose the processor while it has it, and the process that
    the slot is meant for would find it taken.
    """
    try:
        pid, began, _ = _holder(path).read_text().split()
        return _began(int(pid)) == int(began)
    except (OSError, ValueError):
        return False


def _promised_gb(path: Path) -> float:
    """Memory that the holder of a slot may still take, because it has just begun."""
    try:
        if time.time() - _holder(path).stat().st_mtime > _GROWING_S:
            return 0.0
        return float(_holder(path).read_text().split()[2]) * _computes(path)
    except (OSError, ValueError, IndexError):
        return 0.0


def _began(pid: int) -> int:
    """Start time of a process in clock ticks since boot; distinguishes it from a later one."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    # A process that has ended computes no more, although its parent has not taken its exit status.
    return -1 if fields[0] in "ZX" else int(fields[_START_TIME])


def _available_gb() -> float:
    """Memory available without swapping; infinite where the system does not report it."""
    with contextlib.suppress(OSError):
        for line in _MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e9
    return float("inf")


def _is_first(mine: _Ticket, is_crowded: bool) -> bool:
    """True if no ticket that could begin now goes before this one; batch cannot in a crowd."""
    now_ns = time.monotonic_ns()
    rank = mine.rank(now_ns)
    for path in mine.path.parent.iterdir():
        other = _Ticket.parse(path)
        if other is None or path == mine.path or other.rank(now_ns) >= rank:
            continue
        if is_crowded and other.priority >= Priority.BATCH > mine.priority:
            continue
        if _is_held(path) and not _is_silent(path):
            return False
    return True


def _is_silent(path: Path) -> bool:
    """True if the process of a ticket is suspended, so that others go before it."""
    try:
        return time.time() - path.stat().st_mtime > _SILENT_S
    except FileNotFoundError:
        return True


def _is_held(path: Path) -> bool:
    """True if the process of a ticket is alive; the ticket of a dead process is removed."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    # Still with its lock in hand: who is just taking it starts over.
    path.unlink(missing_ok=True)
    lock.release()
    return False
