"""What the tests of the cluster let its workers do."""

import ctypes
import os
import time
from pathlib import Path

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.pipeline.needs import needs


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
