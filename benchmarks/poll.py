"""What a look at a full input directory costs when nothing is new.

Run by `make poll`: 20,000 known files; the first look after a start asks the database, the others
remember. No row may change.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import func, select

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import SubbandFile
from dsa110_contimg.registry.states import FileState
from dsa110_contimg.streaming import ingest

FILES = 20_000


def main() -> int:
    """Make the files and their rows, then look."""
    with tempfile.TemporaryDirectory(prefix="poll_") as name:
        base = Path(name)
        incoming = base / "incoming"
        incoming.mkdir()
        registry = Registry(f"sqlite:///{base / 'a.sqlite3'}", None)
        with registry.write() as session:
            for number in range(FILES):
                hour, minute, second = number // 3600 % 24, number // 60 % 60, number % 60
                day, subband = 1 + number // 86400, number % 16
                path = incoming / (
                    f"2026-01-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}_sb{subband:02d}.hdf5"
                )
                path.write_bytes(b"x")
                status = path.stat()
                session.add(
                    SubbandFile(
                        path=str(path),
                        size=1,
                        mtime_ns=status.st_mtime_ns,
                        first_seen=0.0,
                        state=FileState.REGISTERED,
                    )
                )
        watch = ingest.Watch(registry, incoming)
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            new = watch.new_files(0.0)
            times.append(1e3 * (time.perf_counter() - begin))
            if new:
                print(f"WRONG: {len(new)} files are taken for new")
                return 1
        with registry.read() as session:
            rows = session.scalar(select(func.count(SubbandFile.path)))
        registry.close()
    print(
        f"{rows} known files: first look {times[0]:.0f} ms, others "
        f"{statistics.median(times[1:]):.0f} ms (at most {max(times[1:]):.0f} ms)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
