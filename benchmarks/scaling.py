"""From one worker to a thousand: what saturates first.

Run by `make scaling`. Measured here: full-size tiles with one and two workers (by the command
`bench scale`), what a tile costs the coordinator (`coordinator.py`), and how many tasks a second a
Dask scheduler hands to four real workers with many sleeping threads. From these figures tiles are
followed in virtual time through coordinator, scheduler, storage, network and workers, for the data
of the DSA-110 and of a successor with 2,000 antennas.
"""

import argparse
import heapq
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemons import PROGRAMS

WORKERS = (1, 2, 4, 10, 20, 30, 100, 300, 1000, 10_000)
_TILE_S = 309.24
_BUSY = ("computing", "coordinator", "scheduler", "storage", "network")
_WORK_EXPONENT = 1.6
"""Of antennas, by `make growth`: conversion and solving 1.6, application 1.5, imaging 1.3."""
_CALLS_A_TILE = 3.3
"""Conversion, application and imaging, and a tenth of solving, mosaic and validation."""


@dataclass(frozen=True)
class Installation:
    """What a tile meets on its way.

    Attributes
    ----------
    name : str
    worker_s : float
        Computing of one tile on one worker.
    coordinator_s, scheduler_s : float
        Of the one program that hands out, and of Dask's scheduler, for each tile.
    gigabytes : float
        Read and written for each tile on shared storage, over the network.
    storage_gb_s, network_gb_s : float
        What the shared storage and its link give to all together.
    """

    name: str
    worker_s: float
    coordinator_s: float
    scheduler_s: float
    gigabytes: float
    storage_gb_s: float
    network_gb_s: float


def follow(place: Installation, workers: int, tiles: int) -> dict[str, float]:
    """Tiles in virtual time: all are there at the beginning, each takes its turn everywhere.

    Returns
    -------
    dict
        Tiles an hour, and how busy each thing is, 0 to 1.
    """
    times = {
        "coordinator": place.coordinator_s,
        "scheduler": place.scheduler_s,
        "storage": place.gigabytes / place.storage_gb_s,
        "network": place.gigabytes / place.network_gb_s,
    }
    free_at = dict.fromkeys(times, 0.0)
    free_workers = [0.0] * workers
    busy: dict[str, float] = dict.fromkeys(times, 0.0)
    end = 0.0
    for _ in range(tiles):
        # A worker that is free asks for a tile, so nothing waits in between for nobody.
        now = heapq.heappop(free_workers)
        for name, seconds in times.items():
            free_at[name] = max(free_at[name], now) + seconds
            busy[name] += seconds
            now = free_at[name]
        now += place.worker_s
        heapq.heappush(free_workers, now)
        end = max(end, now)
    found = {name: spent / end for name, spent in busy.items()}
    found["computing"] = tiles * place.worker_s / (workers * end)
    return {"tiles_per_hour": 3600.0 * tiles / end, **found}


def dask_tasks_a_second(tasks: int = 20_000) -> float:
    """Tasks that a real scheduler hands to four workers of 250 sleeping threads each."""
    script = f"""
import time
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=4, threads_per_worker=250, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.gather(client.map(time.sleep, [0.01] * 1000, pure=False))
            begin = time.monotonic()
            client.gather(client.map(time.sleep, [0.1] * {tasks}, pure=False))
            print({tasks} / (time.monotonic() - begin))
"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.py"
        path.write_text(script)
        done = subprocess.run([sys.executable, path], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def bench_scale(options: list[str]) -> list[dict[str, Any]]:
    """What `bench scale` measures on this machine."""
    with tempfile.TemporaryDirectory(prefix="scaling_") as root:
        done = subprocess.run(
            [
                PROGRAMS / "dsa110-contimg",
                "bench",
                "scale",
                "--workers",
                "1,2",
                "--json",
                "--root",
                root,
                *options,
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def successor(place: Installation, antennas: int = 2000, of: int = 96) -> Installation:
    """The same sky with more antennas: bytes go with their square, work nearly so."""
    ratio = antennas / of
    return replace(
        place,
        name=place.name.replace(str(of), str(antennas), 1),
        worker_s=place.worker_s * ratio**_WORK_EXPONENT,
        gigabytes=place.gigabytes * ratio**2,
    )


def table(place: Installation) -> list[Mapping[str, float]]:
    """One row for each number of workers."""
    return [
        {"workers": float(count), **follow(place, count, max(200, 5 * count))} for count in WORKERS
    ]


def main() -> int:
    """Measure, follow, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--coordinator-ms",
        type=float,
        required=True,
        help="a tile's cost on PostgreSQL, of make coordinator",
    )
    parser.add_argument("--storage-gb-s", type=float, default=2.0)
    parser.add_argument("--network-gb-s", type=float, default=1.25, help="default: 10 Gbit/s")
    parser.add_argument("--small", action="store_true", help="small tiles, to try the program")
    options = parser.parse_args()
    size = ["--antennas", "24", "--channels", "2"] if options.small else []
    measured = bench_scale([*size, "--tiles", "3"])
    tasks = dask_tasks_a_second()
    one = measured[0]
    dsa = Installation(
        "96 antennas",
        3600.0 / one["tiles_per_hour"],
        options.coordinator_ms / 1e3,
        _CALLS_A_TILE / tasks,
        _gigabytes(one["tile_gb"]),
        options.storage_gb_s,
        options.network_gb_s,
    )
    own = replace(
        dsa,
        name="96 antennas, Measurement Sets on the workers' own disks",
        gigabytes=_gigabytes(one["tile_gb"], own_disks=True),
    )
    print(json.dumps({"measured": measured, "dask_tasks_a_second": round(tasks)}, indent=1))
    for place in (dsa, own, successor(dsa), successor(own)):
        print(
            f"\n{place.name}: {place.worker_s:.1f} s and {place.gigabytes:.1f} GB a tile; real "
            f"time is {3600 / _TILE_S:.1f} tiles/h"
        )
        print(
            f"{'workers':>8} {'tiles/h':>10} {'x real time':>12}  busy: "
            + " ".join(f"{name:>12}" for name in _BUSY)
        )
        for row in table(place):
            rate = row["tiles_per_hour"]
            print(
                f"{row['workers']:8.0f} {rate:10.1f} {rate * _TILE_S / 3600:12.1f}        "
                + " ".join(f"{100 * row[name]:11.1f}%" for name in _BUSY)
            )
    return 0


def _gigabytes(tile: Mapping[str, float], own_disks: bool = False) -> float:
    """Read from and written to what all share, for a tile.

    Sub-band files; images written, and read for the mosaic; unless workers have disks of their
    own, the Measurement Set written, then read for application and a tenth of solving, and its
    calibrated copy, written and read.
    """
    shared = tile["files"] + 2 * tile["images"]
    return shared if own_disks else shared + 2.1 * tile["raw"] + 2 * tile["calibrated"]


if __name__ == "__main__":
    sys.exit(main())
