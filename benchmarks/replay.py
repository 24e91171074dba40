"""The telescope's real file sets of February 2026 through ingest, with tiny files of their names.

Run by `make replay CONTIMG_REAL_DATA=FOLDER`. Three times: with headers, in order; with every
header unreadable until all have arrived, so that only names tell; and shuffled across the borders
of observations, with a restart in the middle. The figures must be the same each time.
"""

import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np

from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Tile
from dsa110_contimg.simulation import hour
from dsa110_contimg.streaming import ingest
from dsa110_contimg.streaming.headers import HeaderReader
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.times import unix_s
from dsa110_contimg.visibilities import uvh5

_JOIN_S = 120.0
_POLL_FILES = 2000
_EXPECTED = {"complete": 2208, "semi-complete": 2, "rejected": 21}


def groups_by_name(paths: Iterable[Path]) -> list[list[Path]]:
    """Files of one observation each, as far as their names tell: for files that cannot be read.

    Names carry the writer's clock: within an observation they lie up to 82 s apart, and at least
    234 s lie between one observation's last and the next one's first.
    """
    stamped = []
    for path in paths:
        parsed = uvh5.parse_name(path)
        if parsed is not None:
            stamped.append((unix_s(parsed[0]), path))
    out: list[list[Path]] = []
    first = -np.inf
    for at, path in sorted(stamped):
        if at - first > _JOIN_S:
            out.append([])
            first = at
        out[-1].append(path)
    return out


def file_sets(inventory: Path) -> list[list[tuple[str, int]]]:
    """Observations as lists of (time stamp in the names, number of files with it)."""
    with inventory.open() as stream:
        rows = [
            (row["timestamp"], int(row["n_subbands_found"]))
            for row in csv.DictReader(stream)
            if row["group_source"] == "fs" and int(row["size_bytes"]) > 0
        ]
    rows.sort()
    sets: list[list[tuple[str, int]]] = []
    first = -np.inf
    for stamp, count in rows:
        at = datetime.fromisoformat(stamp).timestamp()
        if at - first > _JOIN_S:
            sets.append([])
            first = at
        sets[-1].append((stamp, count))
    return sets


class Template:
    """A tiny file of each sub-band, whose time is put in as bytes."""

    def __init__(self, directory: Path):
        options = hour.RunOptions(groups=1, antennas=2, channels=1, integrations=1, rfi=0.0)
        self._files = []
        for path in hour.prepare(options).write(directory, 0):
            with h5py.File(path, "r") as file:
                times = file["Header/time_array"]
                place = (times.id.get_offset(), times.size)
            self._files.append((bytearray(path.read_bytes()), *place))

    def write(self, path: Path, subband: int, jd: float, whole: bool = True) -> None:
        """Write one file, or the first half of it."""
        content, offset, count = self._files[subband]
        content[offset : offset + 8 * count] = np.full(count, jd).tobytes()
        path.write_bytes(content if whole else content[: len(content) // 2])


def write_all(
    sets: list[list[tuple[str, int]]], directory: Path, template: Template, whole: bool = True
) -> list[list[Path]]:
    """Write every observation; returns its files."""
    written = []
    for rows in sets:
        start = datetime.fromisoformat(f"{rows[0][0]}+00:00").timestamp()
        jd = 2440587.5 + (start - 5.0) / 86400
        files, number = [], 0
        for stamp, count in rows:
            for _ in range(count):
                path = directory / f"{stamp}_sb{number:02d}.hdf5"
                template.write(path, number, jd, whole)
                files.append(path)
                number += 1
        written.append(files)
    return written


def poll(registry: Registry, directory: Path, files: list[Path] | None, final: bool) -> None:
    """One look at the directory, as the converter takes it; of some files only."""
    found = ingest.scan(directory, 0.0)
    if files is not None:
        chosen = set(files)
        found = [file for file in found if file.path in chosen]
    ingest.register(
        registry,
        ingest.unknown(registry, found),
        HeaderReader(InlineExecutor(), DSA110),
        300.0,
        final,
    )
    ingest.decide(registry, DSA110, 12, 300.0, final)


def verdict(count: int) -> str:
    """What becomes of an observation of so many files."""
    if count >= DSA110.n_subbands:
        return "complete"
    return "semi-complete" if count >= 12 else "rejected"


def figures(registry: Registry) -> Counter[str]:
    """Tiles by what became of them, which must agree with their number of files."""
    with registry.read() as session:
        tiles = [(tile.n_subbands, tile.state) for tile in session.query(Tile)]
    wrong = [tile for tile in tiles if (tile[1] == "rejected") != (verdict(tile[0]) == "rejected")]
    if wrong:
        sys.exit(f"tiles in a wrong state: {wrong[:5]}")
    return Counter(verdict(count) for count, _ in tiles)


def main() -> int:
    """Replay three times, print, and return 0 if all figures are right."""
    real = os.environ.get("CONTIMG_REAL_DATA")
    if not real:
        sys.exit("set CONTIMG_REAL_DATA to the folder with the inventory")
    sets = file_sets(Path(real) / "dsa110_hdf5_inventory_2026-02.csv")
    if len(sys.argv) > 1:
        sets = sets[: int(sys.argv[1])]
    expected = Counter(verdict(sum(count for _, count in rows)) for rows in sets)
    print(f"{len(sets)} observations in the inventory: {dict(expected)}")
    good = len(sys.argv) > 1 or expected == _EXPECTED
    with tempfile.TemporaryDirectory(prefix="contimg-replay-") as folder:
        root = Path(folder)
        (root / "template").mkdir()
        template = Template(root / "template")
        for name in ("in order", "names only", "shuffled"):
            begin = time.perf_counter()
            directory = root / name.replace(" ", "_")
            directory.mkdir()
            url = f"sqlite:///{directory}.sqlite3"
            registry = Registry(url, None)
            if name == "names only":
                write_all(sets, directory, template, whole=False)
                poll(registry, directory, None, final=False)
                by_name = groups_by_name(directory.iterdir())
                found = Counter(verdict(len(files)) for files in by_name)
                print(f"{name}, unreadable: {dict(found)}")
                good &= found == expected
            written = write_all(sets, directory, template)
            files = [path for some in written for path in some]
            if name == "shuffled":
                # Across borders: each file may come up to three observations late.
                rng = np.random.default_rng(1)
                files = [
                    files[k]
                    for k in np.argsort(np.arange(len(files)) + rng.uniform(0, 48, len(files)))
                ]
            for first in range(0, len(files), _POLL_FILES):
                poll(registry, directory, files[: first + _POLL_FILES], final=False)
                if name == "shuffled" and first == (len(files) // 2) // _POLL_FILES * _POLL_FILES:
                    registry.close()
                    registry = Registry(url, None)
            poll(registry, directory, None, final=True)
            found = figures(registry)
            watch = ingest.Watch(registry, directory)
            watch.new_files(0.0)
            begin_poll = time.perf_counter()
            known = watch.new_files(0.0)
            poll_ms = 1e3 * (time.perf_counter() - begin_poll)
            print(
                f"{name}: {dict(found)}, {len(files)} files in {begin_poll - begin:.0f} s; "
                f"a poll that finds nothing new {poll_ms:.0f} ms, {len(known)} new"
            )
            good &= found == expected and not known
            registry.close()
            for path in files:
                path.unlink()
    print("the same each time" if good else "THE FIGURES DIFFER")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
