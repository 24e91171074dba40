"""What the tests of the cluster let its workers do."""

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.executors.needs import needs
from dsa110_contimg.executors.own_disk import OnHost, host_of, this_host


@dataclass(frozen=True)
class Written:
    """Something that lies on a machine's own disk, if `host` names one."""

    path: Path
    host: str

    @property
    def place(self) -> OnHost:
        return OnHost(self.host, self.path)


def write_there(output: Path) -> Written:
    output.write_text("mine")
    return Written(output, host_of(output))


def read_there(written: Written, seconds: float = 0.0) -> tuple[str, str]:
    """Where this ran, and what was written."""
    time.sleep(seconds)
    return this_host(), written.path.read_text()


def double(number: int) -> int:
    return 2 * number


def complain() -> None:
    raise BadInputError("sb03.hdf5: is cut short; send it again")


def hold_the_interpreter() -> None:
    ctypes.PyDLL(None).sleep(120)


def write_slowly(marks: Path, output: Path, seconds: float) -> str:
    """Leave a mark, then take time."""
    (marks / f"{os.getpid()}").touch()
    output.write_text("half")
    time.sleep(seconds)
    return output.name


@needs(memory_gb=3.0)
def heavy(seconds: float) -> tuple[float, float]:
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()
