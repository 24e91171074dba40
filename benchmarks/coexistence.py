"""Streaming and batch on one root at once: neither changes the other's bytes, nor holds it up.

Run by `make coexistence`. The same observations are streamed by both daemons alone, and again while
the REST server works off ten jobs and the command line plans and builds a mosaic. Batch results are
compared with those of the same requests on a root where nothing else runs.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from daemons import CONVERT, MOSAIC, PROGRAMS, Installation, conclude, simulate, until

from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.simulation import hour

TILES, FIRST = 41, 9
JOBS = 10
_LAG_LIMIT = 1.2


def feed(place: Installation, files: list[list[Path]]) -> None:
    """Let files arrive, all at once."""
    for path in (path for group in files for path in group):
        os.link(path, place.incoming / path.name)


def stream(place: Installation, run: hour.Run, first: int, last: int) -> float:
    """Seconds until the tiles up to `last` are decided and all groups finished."""
    begin = time.monotonic()
    start = (run.starts_jd[last - 1] - 2440587.5) * 86400.0
    until(lambda: place.is_finished(last, start), 1800.0)
    return time.monotonic() - begin


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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._log = (place.root / "serve.log").open("wb")
        self._server = subprocess.Popen(
            [PROGRAMS / "dsa110-contimg", "serve", "--port", str(self._port),
             "--root", str(place.root)], stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60.0)

    def _answers(self) -> bool:
        try:
            return self._client.get("/api/status").status_code == 200
        except httpx.TransportError:
            return False

    def run(self) -> dict[str, str]:
        """Send everything, wait for all, and give the checksum of each result's pixels."""
        until(self._answers, 60.0, 0.1)
        jobs = {}
        for number in range(JOBS):
            name = f"job_{number}"
            method = ("mean", "weighted", "pbweighted")[number % 3]
            body = {"type": "mosaic", "params": {"name": name, "method": method,
                                                 "until": self._until}}  # fmt: skip
            jobs[name] = self._client.post("/api/jobs/", json=body).raise_for_status().json()["id"]
        mosaic = [PROGRAMS / "dsa110-contimg-mosaic"]
        root = ["--root", self._place.root]
        output = self._place.root / "products" / "by_hand.fits"
        subprocess.run(
            [*mosaic, "plan", "--name", "by_hand", "--until", str(self._until), *root],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        subprocess.run(
            [*mosaic, "build", "--name", "by_hand", "--output", output, *root],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
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
        until_s = (run.starts_jd[FIRST] - 2440587.5) * 86400.0 - 1.0
        places = {name: Installation.make(base / name, run) for name in ("alone", "together")}
        seconds = {}
        for name, place in places.items():
            # Both begin with the same finished tiles, which the batch requests are about.
            feed(place, files[:FIRST])
            place.start(CONVERT)
            place.start(MOSAIC)
            stream(place, run, 0, FIRST)
            batch, results = None, {}
            if name == "alone":
                batch = Batch(place, until_s)
                begin = time.monotonic()
                alone = batch.run()
                seconds["batch alone"] = time.monotonic() - begin
                batch.close()
                feed(place, files[FIRST:])
                seconds["streaming alone"] = stream(place, run, FIRST, TILES)
            else:
                batch = Batch(place, until_s)
                with ThreadPoolExecutor(1) as watcher:
                    feed(place, files[FIRST:])
                    streamed = watcher.submit(stream, place, run, FIRST, TILES)
                    begin = time.monotonic()
                    results = batch.run()
                    seconds["batch together"] = time.monotonic() - begin
                    seconds["streaming together"] = streamed.result()
                batch.close()
                faults += [f"{key}: differs" for key in alone if alone[key] != results.get(key)]
            place.stop()
        calm, busy = (place.products() for place in places.values())
        compared = [key for key in calm if key.endswith((".fits", ".png")) and "mosaic_" in key]
        faults += [f"{key}: differs" for key in compared if calm[key] != busy.get(key)]
        ratio = seconds["streaming together"] / seconds["streaming alone"]
        if ratio > _LAG_LIMIT:
            faults.append(f"streaming took {ratio:.2f} times as long")
        print(json.dumps({key: round(value, 1) for key, value in seconds.items()}))
        print(f"{len(compared)} streamed and {len(alone)} batch products compared, "
              f"streaming takes {ratio:.2f} times as long beside batch")  # fmt: skip
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return conclude(faults)


if __name__ == "__main__":
    sys.exit(main())
