"""Both daemons with SLURM's jobs as their workers: a real SLURM of one node, started here.

Run by `make test-slurm`, as root on a machine that has nothing better to do: needs Debian's
slurm-wlm and munge. An hour of small tiles is streamed to published mosaics on this machine and
again by jobs of SLURM, some of which are cancelled on the way; products must be equal.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from daemons import CONVERT, MOSAIC, Installation, conclude, simulate, until
from dsa110_contimg.visibilities.observations import unix_seconds

_CONFIG = """
ClusterName=contimg
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ReturnToService=2
NodeName={host} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A SLURM of this one node, in a directory."""

    def __init__(self, base: Path):
        base.mkdir(parents=True)
        for name in ("state", "spool"):
            (base / name).mkdir()
        self._running: list[subprocess.Popen[bytes]] = []
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        self._configuration = base / "slurm.conf"
        self._configuration.write_text(
            _CONFIG.format(
                base=base,
                host=socket.gethostname(),
                cpus=os.cpu_count(),
                memory=memory_mb * 9 // 10,
                ports=_free_ports(2),
            )
        )
        self.environment = {"SLURM_CONF": str(self._configuration)}
        key = base / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        base.chmod(0o755)
        self._start(
            [
                "munged",
                "--foreground",
                "--force",
                "--key-file",
                key,
                "--socket",
                base / "munge.socket",
                "--pid-file",
                base / "munge.pid",
                "--log-file",
                base / "munge.log",
                "--seed-file",
                base / "munge.seed",
            ]
        )
        until((base / "munge.socket").exists, 30.0, 0.1)
        self._start(["slurmctld", "-D", "-f", self._configuration])
        self._start(["slurmd", "-D", "-f", self._configuration])
        until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), 60.0, 0.5)

    def ask(self, *command: str) -> str:
        """What one of SLURM's programs says; empty while the controller does not answer."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Numbers of the jobs that run."""
        return self.ask("squeue", "-h", "-t", "R", "-o", "%A").split()

    def close(self) -> None:
        """End all jobs and programs."""
        self.ask("scancel", "--user", "root")
        until(lambda: not self.ask("squeue", "-h"), 60.0)
        for process in reversed(self._running):
            process.terminate()
            process.wait(30)

    def _start(self, command: list[object]) -> None:
        self._running.append(
            subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def stream(
    place: Installation, tiles: int, last_start: float, slurm: Slurm | None, cancels: int
) -> dict[str, float]:
    """Both daemons to the end; cancels some jobs on the way."""
    rng = random.Random(1)
    begin = time.monotonic()
    most, cancelled = 0, 0
    place.start(CONVERT)
    place.start(MOSAIC)
    try:
        while not place.is_finished(tiles, last_start):
            if time.monotonic() - begin > 3600.0:
                raise TimeoutError(f"{place.tile_states()} {place.group_states()}")
            time.sleep(1.0)
            if slurm is None:
                continue
            jobs = slurm.jobs()
            most = max(most, len(jobs))
            if jobs and cancelled < cancels and rng.random() < 0.05:
                slurm.ask("scancel", rng.choice(jobs))
                cancelled += 1
    finally:
        place.stop()
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "most_jobs": most,
        "cancelled": cancelled,
    }


def main() -> int:
    """Run both, compare; 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=12)
    parser.add_argument("--cancels", type=int, default=3)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="slurm_"))
    # SLURM's programs of other users than root must reach it.
    base.chmod(0o755)
    slurm = None
    faults = []
    try:
        run, files = simulate(base / "store", options.tiles)
        last_start = unix_seconds(run.starts_jd[-1])
        places = {name: Installation.make(base / name, run) for name in ("here", "slurm")}
        for place in places.values():
            for path in (path for group in files for path in group):
                os.link(path, place.incoming / path.name)
        print("here", stream(places["here"], options.tiles, last_start, None, 0), flush=True)
        slurm = Slurm(base / "programs")
        there = places["slurm"]
        with (there.root / "contimg.toml").open("a") as settings:
            settings.write(
                '\n[executor]\nmaximum_jobs = 1\n[executor.slurm]\ncores = 1\nmemory = "4GB"\n'
                'walltime = "00:30:00"\ninterface = "lo"\n'
            )
        there.environment |= slurm.environment
        print("SLURM", stream(there, options.tiles, last_start, slurm, options.cancels), flush=True)
        until(lambda: not slurm.ask("squeue", "-h"), 120.0)
        calm, other = (place.products() for place in places.values())
        compared = [key for key in calm if key.endswith((".fits", ".png"))]
        faults += [f"{key}: differs" for key in compared if calm[key] != other.get(key)]
        if not compared:
            faults.append("nothing was published")
        faults += there.reasons()
        print(json.dumps({"products_compared": len(compared), "groups": there.group_states()}))
    finally:
        if slurm is not None:
            slurm.close()
        shutil.rmtree(base, ignore_errors=True)
    return conclude(faults)


if __name__ == "__main__":
    sys.exit(main())
