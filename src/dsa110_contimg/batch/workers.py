"""Batch work among the machine's other programs: it takes compute slots, its files are spared."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.executors.opening import open_executor
from dsa110_contimg.executors.priority import Priority
from dsa110_contimg.executors.slots import machine_slot
from dsa110_contimg.operations.batch_programs import protected
from dsa110_contimg.settings import Settings

NICENESS = 10
"""Streaming has the processor first, also while batch programs only start or wait.

A tenth of a core is left to batch beside whatever else the machine does; less would starve it.
"""


@contextmanager
def batch_workers(settings: Settings, reads: Iterable[Path] = ()) -> Iterator[Executor]:
    """An executor; housekeeping spares its files and what it reads meanwhile."""
    step_back()
    with protected(settings.root, reads), open_executor(settings) as executor:
        yield executor


@contextmanager
def working_here(settings: Settings, reads: Iterable[Path] = ()) -> Iterator[None]:
    """Compute in this process, with a slot; a directory that is no root has none to share."""
    if not layout.state(settings.root).is_dir():
        yield
        return
    step_back()
    slots = os.cpu_count() or 1
    with protected(settings.root, reads), machine_slot(settings.slots_dir, slots, Priority.BATCH):
        yield


def step_back() -> None:
    """Let this process and its workers go after others, once; best before it loads libraries."""
    os.nice(max(0, NICENESS - os.nice(0)))
