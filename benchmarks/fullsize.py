"""Twelve full-size groups through both daemons: as fast as they can, and at the pace of the sky.

Run by `make fullsize` (70 GB in the temporary folder). First nine tiles are converted already, as
they are at the pace of the sky, and the tenth arrives: the time from its last sub-band to the
published mosaic. Then everything is there at once: tiles an hour, as imaged and as new ones, since
neighbouring mosaics share two; the simulated files go as soon as they are converted.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from daemons import CONVERT, MOSAIC, Installation, until
from dsa110_contimg.registry.models import MosaicGroup
from dsa110_contimg.simulation import hour
from dsa110_contimg.visibilities.observations import unix_seconds

_SETTINGS = {
    "group_size": 10,
    "group_overlap": 2,
    "poll_interval_s": 5.0,
    "settle_s": 3.0,
    "mosaic_interval_s": 60.0,
    "lease_s": 120.0,
    "leftover_s": 1.0,
}
_PATIENCE_S = 7200.0


def install(base: Path, name: str, run: hour.Run, **more: object) -> Installation:
    """A root with the options as they come."""
    place = Installation.make(base / name, run, tables="", **{**_SETTINGS, **more})
    place.start(CONVERT)
    place.start(MOSAIC)
    return place


def feed(place: Installation, files: list[list[Path]]) -> None:
    """Let files arrive, all at once."""
    for path in (path for group in files for path in group):
        os.link(path, place.incoming / path.name)


def groups(place: Installation) -> list[tuple[str, int, str]]:
    """State, tiles and reason of each group."""
    with place.registry() as registry, registry.read() as session:
        rows = session.scalars(select(MosaicGroup).order_by(MosaicGroup.start))
        return [(row.state, len(row.tile_ids), row.reason) for row in rows]


def throughput(base: Path, run: hour.Run, files: list[list[Path]]) -> dict[str, object]:
    """Everything at once."""
    place = install(base, "throughput", run)
    begin = time.monotonic()
    try:
        feed(place, files)
        until(lambda: place.tile_states().get("converted", 0) == len(files), _PATIENCE_S, 1.0)
        for path in (path for group in files for path in group):
            path.unlink()
            (place.incoming / path.name).unlink()
        start = unix_seconds(run.starts_jd[len(files) - 1])
        until(lambda: place.is_finished(len(files), start), _PATIENCE_S, 1.0)
        seconds = time.monotonic() - begin
    finally:
        place.stop()
    found = groups(place)
    imaged = sum(count for _, count, _ in found)
    shutil.rmtree(place.root.parent)
    return {
        "seconds": round(seconds, 1),
        "groups": found,
        "imaged_tiles_per_hour": round(3600 * imaged / seconds, 1),
        "new_tiles_per_hour": round(3600 * len(files) / seconds, 1),
        "times_real_time": round(len(files) * 309.0 / seconds, 1),
    }


def latency(base: Path, run: hour.Run, files: list[list[Path]]) -> dict[str, object]:
    """The tenth tile arrives when nine are converted."""
    place = install(base, "latency", run, leftover_s=3600.0)
    try:
        feed(place, files[:9])
        until(lambda: place.tile_states().get("converted", 0) == 9, _PATIENCE_S, 1.0)
        feed(place, files[9:10])
        begin = time.monotonic()
        until(lambda: [g[0] for g in groups(place)] in (["published"], ["held"]), _PATIENCE_S, 1.0)
        return {
            "last_subband_to_mosaic_s": round(time.monotonic() - begin, 1),
            "groups": groups(place),
        }
    finally:
        place.stop()
        shutil.rmtree(place.root.parent)


def main() -> int:
    """Simulate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--directory", type=Path, help="use simulated files that are here already")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="fullsize_"))
    store = options.directory or base / "store"
    store.mkdir(parents=True, exist_ok=True)
    run = hour.prepare(hour.RunOptions(groups=options.groups, antennas=96, channels=48, seed=11))
    try:
        files = []
        for number in range(options.groups):
            mark = store / f"group{number}.json"
            if not mark.exists():
                written = run.write(store, number)
                mark.write_text(json.dumps([str(path) for path in written]))
            files.append([Path(name) for name in json.loads(mark.read_text())])
        print(json.dumps({"latency": latency(base, run, files)}, indent=1), flush=True)
        print(json.dumps({"throughput": throughput(base, run, files)}, indent=1), flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
