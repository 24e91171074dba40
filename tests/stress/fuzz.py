"""Damaged sub-band files: each must be refused with its reason, or read within limits.

Run by `make fuzz`. Bit flips, cuts, wrong shapes and absurd sizes of small files; the header and
then the data of each are read in a process of its own with 10 s and 500 MB. What converts must hold
finite samples only, the others flagged.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from daemons import simulate
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.streaming.headers import TIMEOUT_S
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import uvh5

MEGABYTES = 500
_BAD_VALUES = (np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0, -1.0, 2**31, 2**62)


def flip_bits(path: Path, rng: random.Random) -> str:
    """Turn over some bits anywhere, often in the structures at the beginning."""
    content = bytearray(path.read_bytes())
    reach = len(content) if rng.random() < 0.5 else min(len(content), 20_000)
    for _ in range(rng.choice([1, 2, 8, 64, 1000])):
        content[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return "bits"


def overwrite(path: Path, rng: random.Random) -> str:
    """Zeros or noise over a stretch, as of a lost block."""
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content))
    length = rng.choice([8, 512, 4096, 65536])
    fill = rng.randbytes(length) if rng.random() < 0.5 else bytes(length)
    content[begin : begin + length] = fill[: max(0, len(content) - begin)]
    path.write_bytes(content)
    return "blocks"


def cut(path: Path, rng: random.Random) -> str:
    """Lose the end."""
    os.truncate(path, rng.randrange(path.stat().st_size))
    return "cut"


def change_shape(path: Path, rng: random.Random) -> str:
    """One item with another shape or type, or none at all."""
    with h5py.File(path, "r+") as file:
        group = file[rng.choice(["Header", "Header", "Data"])]
        name = rng.choice(sorted(group))
        old = group[name]
        shape = getattr(old, "shape", ())
        del group[name]
        kind = rng.choice(["gone", "scalar", "empty", "longer", "text", "group", "huge"])
        if kind == "scalar":
            group[name] = 1.0
        elif kind == "empty":
            group.create_dataset(name, (0,), "f8")
        elif kind == "longer":
            group.create_dataset(name, (*[n + 1 for n in shape], 2), "f4")
        elif kind == "text":
            group[name] = "nonsense"
        elif kind == "group":
            group.create_group(name)
        elif kind == "huge":
            group.create_dataset(name, (2**40,), "f8", chunks=(2**20,))
    return "shape"


def change_values(path: Path, rng: random.Random) -> str:
    """Values that cannot be, in the header or the data."""
    with h5py.File(path, "r+") as file:
        group = file[rng.choice(["Header", "Data"])]
        name = rng.choice(sorted(group))
        item = group[name]
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fciu":
            return change_shape(path, rng)
        values = np.atleast_1d(item[()])
        bad = rng.choice(_BAD_VALUES)
        with np.errstate(all="ignore"):
            count = rng.choice([1, values.size])
            values.reshape(-1)[:count] = np.asarray(bad).astype(values.dtype)
        item[()] = values.reshape(item.shape) if item.shape else values[0]
    return "values"


DAMAGES: tuple[Callable[[Path, random.Random], str], ...] = (
    flip_bits,
    overwrite,
    cut,
    change_shape,
    change_values,
)


def read(path: Path, header_done: Callable[[], object]) -> str:
    """Read a file as ingest and conversion do; says what came of it."""
    try:
        header = uvh5.read_header(path)
        header.subband(DSA110)
        header_done()
        visdata, flags, nsamples = uvh5.read_visibilities(header)
    except BadInputError as error:
        return "refused" if str(path) in str(error) else f"refused without its name: {error}"
    assert visdata.shape == flags.shape == nsamples.shape
    return "read"


def judged_apart(path: Path) -> str:
    """The outcome in a process of its own, with limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(int(TIMEOUT_S))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20,) * 2)
        try:
            outcome = read(path, lambda: os.write(writer, b"\0"))
        except BaseException as error:  # noqa: BLE001 (anything else is a fault to be told)
            outcome = f"{type(error).__name__}: {error}"
        os.write(writer, outcome.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        outcome = stream.read().decode()
    _, status = os.waitpid(child, 0)
    header_was_read, outcome = outcome.startswith("\0"), outcome.lstrip("\0")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGALRM and not header_was_read:
            # Ingest reads headers apart and ends the reader.
            return "refused at the time-out"
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return outcome


def main() -> int:
    """Damage and read; exits with 1 if a file is neither refused nor read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    faults = []
    longest = 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz_") as name:
        base = Path(name)
        _, files = simulate(base / "store", 1, 8)
        for number in range(options.files):
            rng = random.Random(options.seed * 1_000_003 + number)
            source = rng.choice(files[0])
            path = base / source.name
            shutil.copyfile(source, path)
            damage = rng.choice(DAMAGES)(path, rng)
            begin = time.monotonic()
            outcome = judged_apart(path)
            longest = max(longest, time.monotonic() - begin)
            if outcome not in ("read", "refused", "refused at the time-out"):
                faults.append(f"file {number} ({damage}): {outcome}")
            counts[f"{damage}: {outcome.split(':')[0]}"] += 1
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    for fault in faults[:40]:
        print(f"WRONG: {fault[:300]}")
    print(f"{options.files} files, {len(faults)} wrong, longest {longest:.2f} s")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
