"""Many small real jobs, and a server that is killed again and again.

Run by `make chaos`. Every job builds a mosaic of two small tiles; the server is killed with SIGKILL
at random moments and started again. In the end the jobs that ran at a kill are failed with that
reason, their processes are gone and wrote nothing afterwards; all others are done, once, in order.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import select

from daemons import PROGRAMS, Installation, children, conclude, free_port, simulate, until
from dsa110_contimg.client import Client
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job

_KILLED = "the server ended while this job was running"


@dataclass
class Server:
    """A server that may be killed; jobs are submitted while it runs."""

    root: Path
    parallel: int
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    orphans: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Start, and wait until it answers."""
        if not self.port:
            self.port = free_port()
        with (self.root / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAMS / "dsa110-contimg",
                    "serve",
                    "--port",
                    str(self.port),
                    "--root",
                    self.root,
                    "--parallel-jobs",
                    str(self.parallel),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        until(self.answers, 60.0, 0.05)

    def answers(self) -> bool:
        """True once it does."""
        try:
            with self.client() as client:
                return client.get("/api/jobs/").status_code == 200
        except httpx.TransportError:
            return False

    def client(self) -> httpx.Client:
        """To ask it something."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)

    def kill(self) -> None:
        """End it without a word; remembers the processes that it leaves."""
        assert self.process is not None
        self.orphans += children(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it kindly."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def submit(server: Server, count: int) -> None:
    """Queue the jobs; each has its own key, so that a repeated request is one job."""
    client = Client(f"http://127.0.0.1:{server.port}")
    for number in range(count):
        client.submit("mosaic", idempotency_key=f"job {number}", name=f"job_{number}")


def disturb(registry: Registry, server: Server, kills: int, pace_s: float, seed: int) -> int:
    """Kill at random moments after a job has begun, while others wait; returns how often."""
    rng = random.Random(seed)
    done = 0
    while done < kills:
        until(lambda: counts(registry)["running"] or not counts(registry)["queued"], 600.0, 0.05)
        time.sleep(rng.expovariate(1 / pace_s))
        states = counts(registry)
        if not states["queued"]:
            break
        server.kill()
        done += 1
        server.start()
    until(lambda: not counts(registry)["queued"] and not counts(registry)["running"], 7200.0, 0.5)
    return done


def counts(registry: Registry) -> Counter[str]:
    """Jobs by state."""
    with registry.read() as session:
        return Counter(str(state) for state in session.scalars(select(Job.state)))


def judge(registry: Registry, root: Path, kills: int, parallel: int) -> list[str]:
    """What is not as it should be."""
    faults = []
    with registry.read() as session:
        jobs = list(session.scalars(select(Job).order_by(Job.id)))
    failed = [job for job in jobs if job.state == "failed"]
    if len(failed) > kills * parallel:
        faults.append(f"{len(failed)} jobs failed, {kills} kills")
    faults += [f"job {job.id}: {job.error}" for job in failed if _KILLED not in job.error]
    good = [job for job in jobs if job.state == "done"]
    if len(good) + len(failed) != len(jobs):
        faults.append(f"states: {counts(registry)}")
    starts = [job.started or 0.0 for job in jobs]
    if starts != sorted(starts):
        faults.append("jobs did not begin in the order they were submitted in")
    content = {pixels(Path(str((job.result or {})["path"]))) for job in good}
    if len(content) != 1:
        faults.append(f"{len(content)} different mosaics of the same tiles")
    for job in failed:
        place = root / "products" / "jobs" / str(job.id)
        # What it had written is taken away when it is declared failed; later is too late.
        faults += [f"job {job.id}: failed and left {path}" for path in place.rglob("*")]
    return faults


def pixels(path: Path) -> bytes:
    """The data of a FITS file: the header tells the mosaic's name."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        return bytes(hdus[0].data.tobytes())


def alive(pids: list[int]) -> list[int]:
    """Processes that still run."""
    return [
        pid
        for pid in pids
        if Path(f"/proc/{pid}/cmdline").exists()
        and b"dsa110_contimg" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def run(
    root: Path, registry: Registry, jobs: int, kills: int, pace_s: float, parallel: int, seed: int
) -> tuple[dict[str, object], list[str]]:
    """Submit, kill, wait, judge; figures and faults."""
    server = Server(root, parallel)
    begin = time.monotonic()
    try:
        server.start()
        submit(server, jobs)
        done = disturb(registry, server, kills, pace_s, seed)
        faults = judge(registry, root, done, parallel)
        left = alive(server.orphans)
        faults += [f"process {pid} of a killed server still runs" for pid in left]
    finally:
        server.stop()
    figures = {
        "jobs": jobs,
        "kills": done,
        "seconds": round(time.monotonic() - begin, 1),
        "states": dict(counts(registry)),
        "processes_at_kills": len(server.orphans),
    }
    return figures, faults


def main() -> int:
    """Run it, print the figures, and say whether all holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pace", type=float, default=30.0, help="mean seconds between two kills")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="job_chaos_"))
    try:
        simulated, files = simulate(base / "store", 2)
        place = Installation.make(base, simulated, group_size=2, leftover_s=0.0, hips=False)
        for path in (path for group in files for path in group):
            os.link(path, place.incoming / path.name)
        for program, arguments in (
            ("dsa110-contimg-convert-stream", ["--input-dir", place.incoming, "--once"]),
            ("dsa110-contimg-streaming-mosaic", ["--once"]),
        ):
            subprocess.run(
                [PROGRAMS / program, *arguments, "--root", place.root],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with place.registry() as registry:
            figures, faults = run(
                place.root,
                registry,
                options.jobs,
                options.kills,
                options.pace,
                options.parallel,
                options.seed,
            )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(json.dumps(figures, indent=1))
    return conclude(faults)


if __name__ == "__main__":
    sys.exit(main())
