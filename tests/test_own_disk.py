"""Measurement Sets on the own disks of machines: read there, converted again when one is lost."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import Cluster, Names
from daemons import until
from sqlalchemy import select

from cluster_calls import double, read_there, write_there
from conftest import SmallRun, make_root
from dsa110_contimg import settings as settings_module
from dsa110_contimg.errors import LostHostError
from dsa110_contimg.pipeline import own_disk
from dsa110_contimg.pipeline.engine import open_executor
from dsa110_contimg.pipeline.executors import InlineExecutor, LocalExecutor
from dsa110_contimg.pipeline.fresh import FreshPath
from dsa110_contimg.pipeline.own_disk import this_host
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    Event,
    GroupState,
    MosaicGroup,
    SubbandFile,
    Tile,
    TileState,
)
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming import (
    StreamingConverter,
    StreamingMosaicManager,
    file_check,
    housekeeping,
)

pytestmark = pytest.mark.xdist_group("cluster")
PATIENCE_S = 6.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two machines; the second has more room."""
    root = tmp_path_factory.mktemp("own_disk")
    cluster = Cluster(root, {"PYTHONPATH": str(Path(__file__).parent)}, Names())
    try:
        cluster.start_scheduler()
        cluster.start_worker("--slots", "1", "--own-disk", str(root / "disk0"))
        cluster.start_worker("--slots", "3", "--own-disk", str(root / "disk1"))
        yield cluster
    finally:
        cluster.close()


def _impatient(cluster: Cluster) -> Settings:
    settings = cluster.settings()
    executor = settings.executor.model_copy(update={"patience_s": PATIENCE_S})
    return settings.model_copy(update={"executor": executor})


def test_what_reads_a_file_runs_where_it_lies(cluster: Cluster) -> None:
    with open_executor(cluster.settings()) as executor:
        until(lambda: executor.capacity == 4, 60.0, 0.05)
        output = FreshPath(Path("/nonexistent/ms"), "t", own_disk=True)
        made = [executor.submit(write_there, output=output).result(60) for _ in range(1)]
        made += [call.result(60) for call in
                 [executor.submit(write_there, output=output) for _ in range(8)]]  # fmt: skip
        assert {one.host for one in made} == {"host0", "host1"}
        for one in made:
            assert one.ms_path.parent == cluster.root / f"disk{one.host[-1]}" / "ms"
        # Three on the machine with one slot: they wait for it though the other has room.
        here = next(one for one in made if one.host == "host0")
        calls = [executor.submit(read_there, written=here, seconds=0.3) for _ in range(3)]
        calls += [executor.submit(read_there, written=one) for one in made]
        assert [call.result(60) for call in calls] == [
            (one.host, "mine") for one in (here, here, here, *made)
        ]


def test_a_machine_that_is_gone_fails_its_calls_and_holds_up_no_others(cluster: Cluster) -> None:
    with open_executor(_impatient(cluster)) as executor:
        until(lambda: executor.capacity == 4, 60.0, 0.05)
        output = FreshPath(Path("/nonexistent/ms"), "t", own_disk=True)
        calls = [executor.submit(write_there, output=output) for _ in range(8)]
        lost = next(one for one in (call.result(60) for call in calls) if one.host == "host0")
        number = 0
        os.kill(cluster.workers[number].pid, 9)
        until(lambda: executor.capacity == 3, 60.0, 0.05)
        waiting = executor.submit(read_there, written=lost)
        others = [executor.submit(double, number=n) for n in range(5)]
        assert [call.result(60) for call in others] == [0, 2, 4, 6, 8]
        assert not waiting.done(), "it is given its time to come back"
        # It comes back in time, and has its files.
        cluster.replace_worker(number, "--slots", "1", "--own-disk", str(cluster.root / "disk0"))
        assert waiting.result(60) == ("host0", "mine")
        lost.ms_path.unlink()
        with pytest.raises(LostHostError, match="is gone from host0") as told:
            executor.submit(read_there, written=lost).result(60)
        assert told.value.host == "host0"
        os.kill(cluster.workers[number].pid, 9)
        until(lambda: executor.capacity == 3, 60.0, 0.05)
        begin = time.monotonic()
        with pytest.raises(LostHostError, match="no worker") as told:
            executor.submit(read_there, written=replace(lost, host="host0")).result(60)
        assert told.value.host == "host0"
        assert time.monotonic() - begin > PATIENCE_S - 1.5
        cluster.replace_worker(number, "--slots", "1", "--own-disk", str(cluster.root / "disk0"))


def test_without_a_cluster_only_this_machines_files_can_be_read(tmp_path: Path) -> None:
    elsewhere = write_there(tmp_path / "a")
    assert elsewhere.host == ""
    with LocalExecutor(1, tmp_path / "slots") as executor:
        for runs in (executor, InlineExecutor()):
            assert runs.submit(read_there, written=elsewhere).result(60)[1] == "mine"
            with pytest.raises(LostHostError, match="lies on far"):
                runs.submit(read_there, written=replace(elsewhere, host="far")).result(60)


class Place:
    """A root whose daemons run here, with a disk of this machine's own."""

    def __init__(self, root: Path, own: Path):
        self.root, self.own = root, own
        self.settings = settings_module.load(
            root=root, workers=1, retry_delay_s=0.0, keep_leftovers_h=0.0
        )
        self.registry = Registry(self.settings.database)

    def convert(self) -> None:
        StreamingConverter(
            self.root / "incoming", self.root / "ms", self.registry, self.settings,
            InlineExecutor(), once=True,
        ).run()  # fmt: skip

    def manager(self) -> StreamingMosaicManager:
        return StreamingMosaicManager(self.registry, self.settings, InlineExecutor(), once=True)

    def tiles(self) -> list[Tile]:
        with self.registry.read() as session:
            return list(session.scalars(select(Tile).order_by(Tile.start)))

    def group(self) -> MosaicGroup:
        with self.registry.read() as session:
            return session.scalars(select(MosaicGroup)).one()

    def move_to(self, host: str) -> None:
        """What is here is said to be elsewhere."""
        with self.registry.write() as session:
            for tile in session.scalars(select(Tile)):
                tile.ms_host = host
                tile.converted = {**(tile.converted or {}), "host": host}

    def mosaic(self) -> bytes:
        (path,) = (p for p in (self.root / "products" / "mosaics").glob("*.fits")
                   if p.stem.count("_") == 2)  # fmt: skip
        return path.read_bytes()


@pytest.fixture
def place(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv(own_disk.VARIABLE, str(own))
    root = make_root(tmp_path / "root", small_run)
    (root / "incoming").mkdir()
    for files in small_run.files:
        for path in files:
            os.link(path, root / "incoming" / path.name)
    place = Place(root, own)
    yield place
    place.registry.close()


def test_tiles_of_a_lost_machine_are_converted_again_and_the_mosaic_is_the_same(
    place: Place, streamed_once: Path
) -> None:
    place.convert()
    assert {tile.ms_host for tile in place.tiles()} == {this_host()}
    assert all(Path(tile.ms_path).parent == place.own / "ms" for tile in place.tiles())
    place.move_to("gone")
    manager = place.manager()
    until(lambda: manager.cycle() and place.tiles()[0].state == TileState.READY, 120.0, 0.1)
    assert {(t.state, t.ms_path, t.ms_host) for t in place.tiles()} == {(TileState.READY, "", "")}
    assert place.group().failures == 0, "it is nobody's failure"
    with place.registry.read() as session:
        told = list(session.scalars(select(Event.message)))
    assert any("was on gone, now gone: will be converted again" in message for message in told)
    place.convert()
    manager.run()
    assert place.group().state == GroupState.PUBLISHED
    calibrated = list(place.own.glob("ms/*_cal_*.ms"))
    assert len(calibrated) == 3, "what lies between the stages is there too"
    assert not list(place.root.glob("ms/*.ms"))
    assert Place(streamed_once, place.own).mosaic() == place.mosaic()


def test_a_lost_tile_whose_files_are_gone_too_is_set_aside(place: Place) -> None:
    place.convert()
    place.move_to("gone")
    first = place.tiles()[0].id
    with place.registry.write() as session:
        for path in session.scalars(select(SubbandFile.path).where(SubbandFile.tile_id == first)):
            Path(path).unlink()
    assert file_check.give_up_host(place.registry, "gone") == 3
    assert [tile.state for tile in place.tiles()] == [
        TileState.QUARANTINED, TileState.READY, TileState.READY
    ]  # fmt: skip
    assert "was on gone" in place.tiles()[0].reason


def test_what_is_done_with_goes_from_own_disks_too(place: Place) -> None:
    place.convert()
    place.manager().run()
    stranger = place.own / "ms" / "notes.txt"
    stranger.write_text("of a person")
    # The check of files knows only its own machine's disk.
    assert file_check.check_files(place.registry, place.root, dry_run=True) == []
    place.move_to("far")
    assert file_check.check_files(place.registry, place.root, dry_run=True) == []
    place.move_to(this_host())

    (own,) = housekeeping.own_disks(place.registry, place.settings)
    cleared = InlineExecutor().submit(housekeeping.clear_own_disk, **own)
    assert cleared.result() == 3, "the calibrated ones"
    assert len(list(place.own.glob("ms/*.ms"))) == 3
    done = place.settings.model_copy(update={"keep_ms_h": 0.0})
    later = time.time() + 2 * 3600.0
    found = housekeeping.find(place.registry, done, later)
    raw = [removal for removal in found if removal.kind == "raw MS"]
    assert [removal.host for removal in raw] == [this_host()] * 3
    housekeeping.remove(place.registry, done, raw)
    assert {(tile.ms_path, tile.ms_host) for tile in place.tiles()} == {("", "")}
    own = {**own, "named": frozenset()}
    assert InlineExecutor().submit(housekeeping.clear_own_disk, **own).result() == 3
    assert [path.name for path in (place.own / "ms").iterdir()] == ["notes.txt"]
