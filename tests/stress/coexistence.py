"""Streaming and batch on one root at once: neither changes the other's bytes, nor holds it up.

Run by `make coexistence`. Observations arrive at a steady pace, half of what the daemons can do.
They are streamed alone, and again while the REST server works off ten jobs and the command line
plans and builds a mosaic. The lag of a group is from the last file of its last tile to its mosaic.
Batch results are compared with those of the same requests on a root where nothing else runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from sqlalchemy import select

from daemons import CONVERT, MOSAIC, PROGRAMS, Installation, conclude, free_port, simulate, until
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.registry.models import MosaicGroup, Tile
from dsa110_contimg.simulation import hour
from dsa110_contimg.visibilities.observations import unix_seconds

TILES, FIRST = 41, 9
PACE_S = 2.0
JOBS = 10
_LAG_LIMIT = 1.2


def feed(place: Installation, files: list[list[Path]]) -> None:
    """Let files arrive, all at once."""
    for path in (path for group in files for path in group):
        os.link(path, place.incoming / path.name)


def stream(place: Installation, run: hour.Run, last: int) -> None:
    """Wait until the tiles up to `last` are decided and all groups finished."""
    start = unix_seconds(run.starts_jd[last - 1])
    until(lambda: place.is_finished(last, start), 1800.0)


def arrive(place: Installation, run: hour.Run, files: list[list[Path]]) -> None:
    """Let the tiles after the first ones arrive at their pace, and wait for their mosaics."""
    begin = time.monotonic()
    for number, group in enumerate(files[FIRST:]):
        time.sleep(max(0.0, begin + PACE_S * number - time.monotonic()))
        feed(place, [group])
    stream(place, run, TILES)


def lags(place: Installation) -> list[float]:
    """Seconds from the last file of each group's tiles to its mosaic, of groups after the first."""
    with place.registry() as registry, registry.read() as session:
        known = select(Tile.id, Tile.last_arrival).order_by(Tile.start)
        arrived = {row.id: row.last_arrival for row in session.execute(known)}
        before = set(list(arrived)[:FIRST])
        groups = session.scalars(
            select(MosaicGroup).where(MosaicGroup.state == "published").order_by(MosaicGroup.start)
        ).all()
        return [
            group.finished_at - max(arrived[tile] for tile in group.tile_ids)
            for group in groups
            if set(group.tile_ids) - before and group.finished_at
        ]


class Batch:
    """The requests of a batch user: ten jobs over REST, a plan and its build on the command line.

    Parameters
    ----------
    place : Installation
    until_s : float
        Only tiles before this moment are used, so that every run has the same ones.
    """

    def __init__(self, place: Installation, until_s: float):
        self._place = place
        self._until = until_s
        self._port = free_port()
        self._log = (place.root / "serve.log").open("wb")
        self._server = subprocess.Popen(
            [
                PROGRAMS / "dsa110-contimg",
                "serve",
                "--port",
                str(self._port),
                "--root",
                str(place.root),
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60.0)
        until(self._answers, 60.0, 0.1)

    def _answers(self) -> bool:
        try:
            return self._client.get("/api/status").status_code == 200
        except httpx.TransportError:
            return False

    def run(self) -> dict[str, str]:
        """Send everything, wait for all, and give the checksum of each result's pixels."""
        jobs = {}
        for number in range(JOBS):
            name = f"job_{number}"
            method = ("mean", "weighted", "pbweighted")[number % 3]
            body = {
                "type": "mosaic",
                "params": {"name": name, "method": method, "until": self._until},
            }
            jobs[name] = self._client.post("/api/jobs/", json=body).raise_for_status().json()["id"]
        mosaic = [PROGRAMS / "dsa110-contimg-mosaic"]
        root = ["--root", self._place.root]
        output = self._place.root / "products" / "by_hand.fits"
        subprocess.run(
            [*mosaic, "plan", "--name", "by_hand", "--until", str(self._until), *root],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run(
            [*mosaic, "build", "--name", "by_hand", "--output", output, *root],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        found = {"by_hand": sha256(output)}
        for name, job in jobs.items():
            until(lambda job=job: self._ended(job), 900.0)
            answer = self._client.get(f"/api/jobs/{job}").json()
            if answer["status"] != "done":
                raise RuntimeError(f"{name}: {answer}")
            found[name] = sha256(Path(answer["result"]["path"]))
            read_fits(Path(answer["result"]["path"]))
        return found

    def _ended(self, job: int) -> bool:
        status = self._client.get(f"/api/jobs/{job}/status").json()["status"]
        return status not in ("queued", "running")

    def close(self) -> None:
        """Stop the server."""
        self._client.close()
        self._server.terminate()
        self._server.wait(60)
        self._log.close()


def main() -> int:
    """Run all three, compare; 1 if something differs."""
    base = Path(tempfile.mkdtemp(prefix="coexistence_"))
    faults = []
    try:
        run, files = simulate(base / "store", TILES)
        until_s = unix_seconds(run.starts_jd[FIRST]) - 1.0
        places = {name: Installation.make(base / name, run) for name in ("alone", "together")}
        seconds = {}
        for name, place in places.items():
            # Both begin with the same finished tiles, which the batch requests are about.
            feed(place, files[:FIRST])
            place.start(CONVERT)
            place.start(MOSAIC)
            stream(place, run, FIRST)
            batch, results = None, {}
            if name == "alone":
                batch = Batch(place, until_s)
                begin = time.monotonic()
                alone = batch.run()
                seconds["batch alone"] = time.monotonic() - begin
                batch.close()
                arrive(place, run, files)
            else:
                batch = Batch(place, until_s)
                with ThreadPoolExecutor(1) as watcher:
                    streamed = watcher.submit(arrive, place, run, files)
                    begin = time.monotonic()
                    results = batch.run()
                    seconds["batch together"] = time.monotonic() - begin
                    streamed.result()
                batch.close()
                faults += [f"{key}: differs" for key in alone if alone[key] != results.get(key)]
            place.stop()
        calm, busy = (place.products() for place in places.values())
        compared = [key for key in calm if key.endswith((".fits", ".png")) and "mosaic_" in key]
        faults += [f"{key}: differs" for key in compared if calm[key] != busy.get(key)]
        lag = {name: lags(place) for name, place in places.items()}
        means = {name: sum(found) / len(found) for name, found in lag.items()}
        ratio = means["together"] / means["alone"]
        if ratio > _LAG_LIMIT:
            faults.append(f"streaming's lag is {ratio:.2f} times as long")
        figures = seconds | {f"mean lag {name}": mean for name, mean in means.items()}
        print(json.dumps({key: round(value, 1) for key, value in figures.items()}))
        print(json.dumps({name: [round(one, 1) for one in found] for name, found in lag.items()}))
        print(
            f"{len(compared)} streamed and {len(alone)} batch products compared, "
            f"streaming's lag is {ratio:.2f} times as long beside batch"
        )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return conclude(faults)


if __name__ == "__main__":
    sys.exit(main())
