"""Measurement Sets on the own disks of machines: read there, converted again when one is lost."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from cluster_calls import double, read_there, write_there
from clusters import Cluster, Names
from conftest import SmallRun, make_root
from daemons import until
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.tiles import ConvertedTile, ImagedTile
from dsa110_contimg.errors import ElsewhereError, LostHostError
from dsa110_contimg.executors import own_disk
from dsa110_contimg.executors.fresh import FreshPath
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.executors.opening import open_executor
from dsa110_contimg.executors.own_disk import this_host
from dsa110_contimg.registry import file_check
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, MosaicGroup, SubbandFile, Tile
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.registry.tiles import converted_tile
from dsa110_contimg.settings import Settings
from dsa110_contimg.stages import imaging
from dsa110_contimg.streaming import StreamingConverter, StreamingMosaicManager, housekeeping

SUPPORT = Path(__file__).parents[1] / "support"
pytestmark = pytest.mark.xdist_group("cluster")
PATIENCE_S = 6.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two machines; the second has more room."""
    root = tmp_path_factory.mktemp("own_disk")
    given = {"PYTHONPATH": str(SUPPORT), "CONTIMG_DISK_STOP_GB": "0"}
    cluster = Cluster(root, given, Names())
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
        output = FreshPath(Path("/nonexistent/ms"), "t", own_disk_of=cluster.root)
        writing = [executor.submit(write_there, output=output) for _ in range(8)]
        made = [call.result(60) for call in writing]
        assert {one.host for one in made} == {"host0", "host1"}
        for one in made:
            assert one.path.parent.parent.parent == cluster.root / f"disk{one.host[-1]}"
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
        output = FreshPath(Path("/nonexistent/ms"), "t", own_disk_of=cluster.root)
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
        lost.path.unlink()
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
    shared = write_there(tmp_path / "a")
    assert shared.host == ""
    with LocalExecutor(1, tmp_path / "slots") as executor:
        for runs in (executor, InlineExecutor()):
            assert not runs.own_disks
            assert runs.submit(read_there, written=shared).result(60)[1] == "mine"
            with pytest.raises(ElsewhereError, match="lies on far") as told:
                runs.submit(read_there, written=replace(shared, host="far")).result(60)
            assert not isinstance(told.value, LostHostError), "it may be there still"


def test_a_disk_that_is_full_or_not_there_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, root = tmp_path / "shared", tmp_path / "root"
    path = FreshPath(shared, "t", own_disk_of=root)
    assert path.make().parent == shared
    monkeypatch.setenv(own_disk.DIRECTORY, str(tmp_path / "absent"))
    assert path.make().parent == shared
    monkeypatch.setenv(own_disk.DIRECTORY, str(tmp_path))
    own = path.make().parent
    assert own.parent.parent == tmp_path
    other = FreshPath(shared, "t", own_disk_of=tmp_path / "another").make().parent
    assert other != own, "roots do not meet there"
    monkeypatch.setenv(own_disk.LEAST_FREE_GB, "1e9")
    assert path.make().parent == shared


class Place:
    """A root whose daemons run here, with a disk of this machine's own."""

    def __init__(self, root: Path, own: Path):
        self.root, self.own = root, own
        self.settings = settings_module.load(
            root=root, workers=1, retry_delay_s=0.0, keep_leftovers_h=0.0
        )
        self.registry = Registry.of(self.settings)

    @property
    def home(self) -> Path:
        """What is of this root on the disk."""
        return own_disk.home_of(self.root, self.own)

    def convert(self) -> None:
        StreamingConverter(
            self.root / "incoming",
            self.root / "ms",
            self.registry,
            self.settings,
            InlineExecutor(),
            once=True,
        ).run()

    def manager(self) -> StreamingMosaicManager:
        return StreamingMosaicManager(self.registry, self.settings, InlineExecutor(), once=True)

    def tiles(self) -> list[Tile]:
        with self.registry.read() as session:
            return list(session.scalars(select(Tile).order_by(Tile.start)))

    def results(self) -> list[ConvertedTile]:
        return [converted_tile(row) for row in self.tiles()]

    def group(self) -> MosaicGroup:
        with self.registry.read() as session:
            return session.scalars(select(MosaicGroup)).one()

    def quarantined(self) -> bool:
        return self.group().state == GroupState.QUARANTINED

    def events(self) -> list[str]:
        with self.registry.read() as session:
            return list(session.scalars(select(Event.message)))

    def mosaic(self) -> bytes:
        (path,) = (
            p for p in (self.root / "products" / "mosaics").glob("*.fits") if p.stem.count("_") == 2
        )
        return path.read_bytes()


@pytest.fixture
def place(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv(own_disk.DIRECTORY, str(own))
    root = make_root(tmp_path / "root", small_run)
    (root / "incoming").mkdir()
    for files in small_run.files:
        for path in files:
            os.link(path, root / "incoming" / path.name)
    place = Place(root, own)
    yield place
    place.registry.close()


def test_what_a_machine_has_lost_is_made_again_and_nothing_else(
    place: Place, streamed_once: Path
) -> None:
    place.convert()
    first, second, third = place.tiles()
    assert {tile.ms_host for tile in place.tiles()} == {this_host()}
    assert all(Path(tile.ms_path).parent == place.home / "ms" for tile in place.tiles())
    shutil.rmtree(second.ms_path)
    manager = place.manager()
    until(lambda: manager.cycle() and place.tiles()[1].state == TileState.READY, 120.0, 0.1)
    assert place.group().failures == 0, "it is nobody's failure"
    assert any("is gone: will be converted again" in message for message in place.events())
    place.convert()
    manager.run()
    assert place.group().state == GroupState.PUBLISHED
    paths = [tile.ms_path for tile in place.tiles()]
    assert (paths[0], paths[2]) == (first.ms_path, third.ms_path)
    assert paths[1] != second.ms_path
    calibrated = list(place.home.glob("ms/*_cal_*.ms"))
    assert len(calibrated) >= 3, "what lies between the stages is there too"
    assert not list(place.root.glob("ms/*.ms"))
    assert Place(streamed_once, place.own).mosaic() == place.mosaic()


def test_what_lay_between_stages_and_is_lost_costs_only_its_stage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.convert()
    images = imaging.image
    lost: list[Path] = []

    def lose_one(ms_path: Path, **given: object) -> ImagedTile:
        if not lost:
            lost.append(ms_path)
            shutil.rmtree(ms_path)
            raise LostHostError(f"{ms_path} is gone from {this_host()}", this_host(), ms_path)
        return images(ms_path, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(imaging, "image", lose_one)
    before = [tile.ms_path for tile in place.tiles()]
    place.manager().run()
    group = place.group()
    assert (group.state, group.failures) == (GroupState.PUBLISHED, 0)
    assert [tile.ms_path for tile in place.tiles()] == before


def test_what_is_given_up_is_what_was_lost(place: Place) -> None:
    place.convert()
    lost = place.results()
    first, second, _ = lost
    with place.registry.write() as session:
        for path in session.scalars(
            select(SubbandFile.path).where(SubbandFile.tile_id == first.tile_id)
        ):
            Path(path).unlink()
        # Meanwhile it was converted again, on another machine.
        session.get_one(Tile, second.tile_id).ms_host = "another"
    assert file_check.give_up(place.registry, lost) == 2
    assert [tile.state for tile in place.tiles()] == [
        TileState.QUARANTINED,
        TileState.CONVERTED,
        TileState.READY,
    ]
    assert f"on {this_host()} is gone" in place.tiles()[0].reason


def test_a_tile_that_forgot_its_measurement_set_is_told(place: Place) -> None:
    place.convert()
    with place.registry.write() as session:
        session.execute(update(Tile).values(ms_path="", ms_host=""))
    manager = place.manager()
    until(lambda: manager.cycle() is not None and place.quarantined(), 60.0, 0.1)
    assert "retry --convert" in place.group().reason


def test_what_is_done_with_goes_from_own_disks_too(place: Place) -> None:
    place.convert()
    place.manager().run()
    stranger = place.home / "ms" / "notes.txt"
    stranger.write_text("of a person")
    # The check of files knows only its own machine's disk.
    assert file_check.check_files(place.registry, place.root, dry_run=True) == []
    results = place.results()
    with place.registry.write() as session:
        session.execute(update(Tile).values(ms_path="/far/a.ms", ms_host="far"))
    assert file_check.check_files(place.registry, place.root, dry_run=True) == []
    for tile in results:
        with place.registry.write() as session:
            row = session.get_one(Tile, tile.tile_id)
            row.ms_path, row.ms_host = str(tile.ms_path), this_host()

    here = InlineExecutor()
    # A machine that lost its power left this.
    (place.home / "ms" / ".20260125T220521_ab12cd34.ms.part-0123abcd").mkdir()
    (clearing,) = housekeeping.clearings(place.registry, place.settings, here.own_disks)
    count = here.submit(clearing.function, **clearing.arguments).result()
    assert count == 4, "calibrated ones, and the unfinished one"
    assert len(list(place.home.glob("ms/*.ms"))) == 3
    done = place.settings.model_copy(update={"keep_ms_h": 0.0})
    found = housekeeping.find(place.registry, done, time.time() + 2 * 3600.0)
    raw = [removal for removal in found if removal.kind == "raw MS"]
    assert [removal.host for removal in raw] == [this_host()] * 3
    housekeeping.remove(place.registry, done, raw)
    assert {(tile.ms_path, tile.ms_host) for tile in place.tiles()} == {("", "")}
    (clearing,) = housekeeping.clearings(place.registry, place.settings, here.own_disks)
    assert here.submit(clearing.function, **clearing.arguments).result() == 3
    assert [path.name for path in (place.home / "ms").iterdir()] == ["notes.txt"]
