"""The two daemons: files in, one published mosaic out, nothing twice, nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from conftest import Processed, SmallRun, make_root, small_options, use_database
from dsa110_contimg import layout
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import BadInputError, RetryableError
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.operations import sky_survey
from dsa110_contimg.products import hips, survey
from dsa110_contimg.registry import claims
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    CalibrationChoice,
    Event,
    Mosaic,
    MosaicGroup,
    Product,
    SubbandFile,
    Tile,
)
from dsa110_contimg.registry.states import FileState, GroupState, TileState
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sources import catalogue_file
from dsa110_contimg.stages import imaging
from dsa110_contimg.streaming import (
    StreamingConverter,
    StreamingMosaicManager,
    bell,
    daemon,
    groups,
    ingest,
)
from dsa110_contimg.streaming.groups import GroupableTile, Prospect
from dsa110_contimg.streaming.headers import HeaderReader
from dsa110_contimg.tasks.imaging import image
from dsa110_contimg.telescope import DSA110

read = HeaderReader(InlineExecutor(), DSA110)


@pytest.fixture
def root(chosen_url: str, tmp_path: Path, small_run: SmallRun) -> Path:
    root = make_root(tmp_path / "root", small_run)
    if chosen_url:
        use_database(root, chosen_url)
    return root


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    directory = tmp_path / "incoming"
    directory.mkdir()
    return directory


def _link(files: tuple[Path, ...], directory: Path) -> list[Path]:
    out = []
    for path in files:
        target = directory / path.name
        os.link(path, target)
        out.append(target)
    return out


def _converter(root: Path, incoming: Path, once: bool = True, **given: float) -> StreamingConverter:
    settings = settings_module.load(root=root, workers=1, **given)
    registry = Registry.of(settings)
    return StreamingConverter(
        incoming, root / "ms", registry, settings, InlineExecutor(), once=once
    )


def _manager(root: Path) -> StreamingMosaicManager:
    settings = settings_module.load(root=root, workers=1)
    return StreamingMosaicManager(Registry.of(settings), settings, InlineExecutor(), once=True)


def _registry(root: Path) -> Registry:
    return Registry.of(settings_module.load(root=root))


def test_files_in_published_mosaic_out_equal_to_batch_byte_for_byte(
    root: Path, incoming: Path, small_run: SmallRun, processed: Processed
) -> None:
    for files in small_run.files:
        _link(files, incoming)
    _converter(root, incoming).run()
    manager = _manager(root)
    manager.run()
    (published,) = manager.finished
    assert published.published, published.reason
    with _registry(root).read() as session:
        assert session.scalars(select(MosaicGroup.state)).all() == ["published"]
        mosaic = session.scalars(select(Mosaic)).one()
        kinds = set(session.scalars(select(Product.kind)))
    start = int(mosaic.record["mosaic"]["start"])
    assert mosaic.name.startswith(f"mosaic_{mosaic.group_id}_")
    assert int(mosaic.name.rsplit("_", 1)[1]) > start
    maps = {"mosaic", "weight", "rms", "coverage"}
    assert kinds == maps | {"preview", "report", "provenance", *catalogue_file.KINDS}
    batch = processed.result[PublishedMosaic]
    assert published.path.name == batch.path.name
    for kind in ("", "_weight", "_rms", "_coverage"):
        ours = published.path.with_name(f"{published.path.stem}{kind}.fits")
        theirs = batch.path.with_name(f"{batch.path.stem}{kind}.fits")
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_tile_that_fails_in_a_way_nobody_foresaw_does_not_stop_its_group(
    root: Path, incoming: Path, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def fails_on_the_last(ms_path: Path, **given: object) -> object:
        made.append(ms_path)
        if len(made) == 3:
            return {}["a key that is not there"]
        return image(ms_path=ms_path, **given)

    for files in small_run.files:
        _link(files, incoming)
    _converter(root, incoming).run()
    monkeypatch.setattr(imaging, "image", fails_on_the_last)
    for _ in range(2):
        _manager(root).run()
    # Once for each tile, and not again.
    assert len(made) == 3
    with _registry(root).read() as session:
        (state,) = session.scalars(select(MosaicGroup.state))
        record = session.scalars(select(Mosaic)).one().record["mosaic"]
    assert state in (GroupState.PUBLISHED, GroupState.HELD)
    assert len(record["tile_ids"]) == 2
    (reason,) = record["left_out"].values()
    assert reason == "unforeseen KeyError: 'a key that is not there'"


def test_a_second_pass_does_nothing_again(root: Path, incoming: Path, small_run: SmallRun) -> None:
    _link(small_run.files[0], incoming)
    _converter(root, incoming).run()
    with _registry(root).read() as session:
        before = [(t.id, t.attempt, t.ms_path) for t in session.scalars(select(Tile))]
    _converter(root, incoming).run()
    with _registry(root).read() as session:
        after = [(t.id, t.attempt, t.ms_path) for t in session.scalars(select(Tile))]
    assert before == after
    assert len(list((root / "ms").glob("*.ms"))) == 1


def test_incomplete_observations_are_accepted_or_rejected_with_the_reason(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    _link(small_run.files[0][:13], incoming)
    _link(small_run.files[1][:9], incoming)
    _converter(root, incoming).run()
    with _registry(root).read() as session:
        first, second = session.scalars(select(Tile).order_by(Tile.start))
    assert first.state == TileState.CONVERTED
    assert first.converted["absent_subbands"] == [13, 14, 15]
    assert second.state == TileState.REJECTED
    assert "9 of 16 sub-bands arrived" in second.reason
    assert "sb15" in second.reason


def test_the_grace_time_is_waited_for_and_a_late_file_completes_the_tile(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    _link(small_run.files[0][:15], incoming)
    converter = _converter(root, incoming, once=False, grace_s=1000.0, settle_s=0.0)
    converter.cycle()
    with _registry(root).read() as session:
        assert session.scalars(select(Tile.state)).one() == TileState.COLLECTING
    _link(small_run.files[0][15:], incoming)
    while converter.cycle():
        pass
    with _registry(root).read() as session:
        tile = session.scalars(select(Tile)).one()
    assert tile.state == TileState.CONVERTED
    assert tile.n_subbands == 16


def test_bad_files_harm_nothing_else(root: Path, incoming: Path, small_run: SmallRun) -> None:
    files = _link(small_run.files[0], incoming)
    files[2].unlink()
    files[2].write_bytes(b"")
    files[4].unlink()
    shutil.copy(small_run.files[0][4], files[4])
    with files[4].open("rb+") as file:
        file.truncate(5000)
    shutil.copy(small_run.files[0][7], incoming / "2026-01-25T22:05:24_sb07.hdf5")
    shutil.copy(small_run.files[0][7], incoming / "2026-01-25T22:05:24_sb07_incomplete.hdf5")
    shutil.copy(small_run.files[0][7], incoming / ".2026-01-25T22:05:24_sb07.hdf5.Xyz")
    _converter(root, incoming).run()
    with _registry(root).read() as session:
        tile = session.scalars(select(Tile)).one()
        states = {
            Path(row.path).name: (row.state, row.reason)
            for row in session.scalars(select(SubbandFile))
        }
    assert tile.state == TileState.CONVERTED
    assert tile.converted["absent_subbands"] == [2, 4]
    assert states[files[2].name][0] == FileState.REJECTED
    assert "is empty" in states[files[2].name][1]
    assert "truncated" in states[files[4].name][1]
    assert [s for s, _ in states.values()].count(FileState.DUPLICATE) == 1
    assert len(states) == 17


def test_unfinished_files_are_left_alone_until_they_settle(
    incoming: Path, small_run: SmallRun
) -> None:
    (path,) = _link(small_run.files[0][:1], incoming)
    fresh = incoming / "2026-01-25T22:05:21_sb01.hdf5"
    shutil.copy(small_run.files[0][1], fresh)
    old = time.time() - 100
    os.utime(path, (old, old))
    assert [f.path for f in ingest.scan(incoming, settle_s=30.0)] == [path]
    assert len(ingest.scan(incoming, settle_s=0.0)) == 2


def test_a_poll_reads_only_what_is_new(
    root: Path, incoming: Path, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    _link(small_run.files[0], incoming)
    registry = _registry(root)
    found = ingest.scan(incoming, 0.0)
    assert ingest.register(registry, ingest.unknown(registry, found), read, 0.0, True) == 16
    assert ingest.unknown(registry, ingest.scan(incoming, 0.0)) == []
    # The file is shared with other tests: each must see a change.
    later = found[3].path.stat().st_mtime + 1
    os.utime(found[3].path, (later, later))
    again = ingest.unknown(registry, ingest.scan(incoming, 0.0))
    assert [f.path for f in again] == [found[3].path]


def _tiles(*prospects: Prospect, gap_after: int | None = None) -> list[GroupableTile]:
    tiles = []
    start = 0.0
    for k, prospect in enumerate(prospects):
        tiles.append(GroupableTile(f"t{k:02d}", start, 16.2, prospect))
        start += 5000.0 if k == gap_after else (605.0 if k % 5 == 4 else 309.0)
    return tiles


OK, WAIT, NEVER = Prospect.CONVERTED, Prospect.PENDING, Prospect.NEVER


def test_the_first_group_forms_and_windows_slide_by_eight() -> None:
    found = groups.next_complete_groups(_tiles(*[OK] * 27), [])
    assert [(g[0], g[-1]) for g in found] == [("t00", "t09"), ("t08", "t17"), ("t16", "t25")]
    later = groups.next_complete_groups(_tiles(*[OK] * 35), found)
    assert [(g[0], g[-1]) for g in later] == [("t24", "t33")]


def test_without_a_sliding_window_groups_share_nothing() -> None:
    found = groups.next_complete_groups(_tiles(*[OK] * 20), [], sliding_window=False)
    assert [(g[0], g[-1]) for g in found] == [("t00", "t09"), ("t10", "t19")]


def test_a_pending_tile_is_waited_for_and_a_rejected_one_is_not() -> None:
    assert groups.next_complete_groups(_tiles(*[OK] * 4, WAIT, *[OK] * 20), []) == []
    found = groups.next_complete_groups(_tiles(*[OK] * 4, NEVER, *[OK] * 6), [])
    assert found == [["t00", "t01", "t02", "t03", "t05", "t06", "t07", "t08", "t09", "t10"]]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (12, [(0, 9), (8, 11)]),
        (11, [(0, 9), (8, 10)]),
        (10, [(0, 9)]),
        (7, [(0, 6)]),
        (3, [(0, 2)]),
        (2, []),
    ],
)
def test_what_is_left_over_when_a_run_has_ended_is_a_short_group(
    count: int, expected: list[tuple[int, int]]
) -> None:
    tiles = _tiles(*[OK] * count)
    whole = groups.next_complete_groups(tiles, [])
    assert [g[0] for g in whole] == [f"t{a:02d}" for a, b in expected if b - a == 9]
    short = groups.next_complete_groups(tiles, whole, quiet_since=1.0)
    assert [(g[0], g[-1]) for g in [*whole, *short]] == [
        (f"t{a:02d}", f"t{b:02d}") for a, b in expected
    ]
    assert groups.next_complete_groups(tiles, [*whole, *short], quiet_since=1.0) == []


def test_tiles_that_come_after_a_short_group_are_not_lost() -> None:
    short = groups.next_complete_groups(_tiles(*[OK] * 5), [], quiet_since=1.0)
    assert [(g[0], g[-1]) for g in short] == [("t00", "t04")]
    more = groups.next_complete_groups(_tiles(*[OK] * 14), short)
    assert [(g[0], g[-1]) for g in more] == [("t03", "t12")]


def test_few_tiles_left_take_those_before_them_along() -> None:
    tiles = _tiles(*[OK] * 11)
    whole = groups.next_complete_groups(tiles, [], overlap=1)
    short = groups.next_complete_groups(tiles, whole, overlap=1, min_tiles=4, quiet_since=1.0)
    assert short == [["t07", "t08", "t09", "t10"]]


def test_a_run_that_still_receives_tiles_has_not_ended() -> None:
    tiles = [replace(tile, arrived=100.0) for tile in _tiles(*[OK] * 5)]
    assert groups.next_complete_groups(tiles, [], quiet_since=99.0) == []
    assert len(groups.next_complete_groups(tiles, [], quiet_since=100.0)) == 1
    waiting = [*tiles[:-1], replace(tiles[-1], prospect=WAIT)]
    assert groups.next_complete_groups(waiting, [], quiet_since=100.0) == []


def test_a_tile_that_comes_after_its_window_was_formed_gets_one_of_its_own() -> None:
    states = [OK] * 27
    states[4] = NEVER
    formed = groups.next_complete_groups(_tiles(*states), [])
    assert formed[0] == [f"t{k:02d}" for k in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)]
    late = [replace(t, arrived=100.0 if t.id == "t04" else 0.0) for t in _tiles(*[OK] * 27)]
    assert groups.next_complete_groups(late, formed, quiet_since=99.0) == [], "more may come"
    (extra,) = groups.next_complete_groups(late, formed, quiet_since=100.0, min_tiles=3)
    assert "t04" in extra
    assert extra == [f"t{k:02d}" for k in range(2, 12)]
    assert groups.next_complete_groups(late, [*formed, extra], quiet_since=100.0) == []


def test_what_was_observed_before_the_first_group_is_not_lost() -> None:
    tiles = _tiles(*[OK] * 25)
    formed = groups.next_complete_groups(tiles[11:], [])
    assert formed == [[f"t{k:02d}" for k in range(11, 21)]]
    more = groups.next_complete_groups(tiles, formed, quiet_since=1.0)
    seen = {tile for group in [*formed, *more] for tile in group}
    assert seen == {tile.id for tile in tiles}
    firsts = [group[0] for group in [*formed, *more]]
    assert len(firsts) == len(set(firsts)), "a group is named after its first tile"


def test_gaps_and_declinations_end_a_run_but_ordinary_gaps_do_not() -> None:
    assert groups.next_complete_groups(_tiles(*[OK] * 12, gap_after=5), []) == []
    moved = [
        GroupableTile(t.id, t.start, 16.2 if k < 5 else 33.0, t.prospect)
        for k, t in enumerate(_tiles(*[OK] * 12))
    ]
    assert groups.next_complete_groups(moved, []) == []
    assert len(groups.next_complete_groups(_tiles(*[OK] * 12), [])) == 1


@pytest.mark.row("Streaming: Statefulness")
def test_a_killed_converter_leaves_work_that_the_next_one_finishes(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    """kill -9 while converting, then a second start: converted once, no lease waited out."""
    for files in small_run.files:
        _link(files, incoming)
    (root / "contimg.toml").write_text((root / "contimg.toml").read_text() + "\n")
    command = [
        str(Path(sys.executable).parent / "dsa110-contimg-convert-stream"),
        "--input-dir",
        str(incoming),
        "--output-dir",
        str(root / "ms"),
        "--root",
        str(root),
        "--workers",
        "1",
    ]
    environment = {
        **os.environ,
        "CONTIMG_LEASE_S": "2",
        "CONTIMG_SETTLE_S": "0",
        "CONTIMG_POLL_INTERVAL_S": "0.5",
    }
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: _count(root, TileState.CONVERTING) > 0)
        first.send_signal(signal.SIGKILL)
    finally:
        first.wait()
    second = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: _count(root, TileState.CONVERTED) == 3)
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0, "a clean stop on SIGTERM"
    finally:
        second.kill()
    with _registry(root).read() as session:
        tiles = list(session.scalars(select(Tile)))
    assert all(tile.failures == 0 for tile in tiles), "a killed daemon is nobody's failure"
    assert len({tile.ms_path for tile in tiles}) == 3


@pytest.mark.parametrize("endless", [["--loop"], []], ids=["loop", "once"])
def test_a_stopped_mosaic_daemon_leaves_at_once_and_gives_its_group_back(
    root: Path, incoming: Path, small_run: SmallRun, endless: list[str]
) -> None:
    for files in small_run.files:
        _link(files, incoming)
    _converter(root, incoming).run()
    program = str(Path(sys.executable).parent / "dsa110-contimg-streaming-mosaic")
    log = root / "mosaic.log"
    with log.open("wb") as stream:
        daemon = subprocess.Popen([program, *endless, "--root", str(root)], stderr=stream)
    try:
        _until(lambda: "stage=calibrate" in log.read_text())
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0
    finally:
        daemon.kill()
    with _registry(root).read() as session:
        group = session.scalars(select(MosaicGroup)).one()
    assert (group.state, group.failures, group.owner) == (GroupState.READY, 0, "")


def _count(root: Path, state: TileState) -> int:
    url = make_url(settings_module.load(root=root).database)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return 0
    # Asked many times a second: a server has connections for a hundred.
    with closing(_registry(root)) as registry, registry.read() as session:
        return session.scalar(select(func.count()).where(Tile.state == state)) or 0


def _until(condition: object, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_products_are_registered_with_their_checksums(processed: Processed) -> None:
    from dsa110_contimg.products.publish import sha256

    with _registry(processed.root).read() as session:
        products = list(session.scalars(select(Product)))
    assert len(products) == 12
    assert all(sha256(Path(p.path)) == p.sha256 for p in products)
    hidden = list((processed.root / "products").rglob(".*"))
    assert hidden == []
    assert read_fits(processed.result[PublishedMosaic].path).beam is not None


def test_a_group_without_acceptable_calibration_is_held_with_the_reason_until_it_has_one(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    for files in small_run.files:
        _link(files, incoming)
    _converter(root, incoming).run()
    good = small_run.run.sky.catalogue("known")
    catalogues.save(root, replace(good, dec_deg=good.dec_deg - 60))
    _manager(root).run()
    with _registry(root).read() as session:
        (group,) = session.scalars(select(MosaicGroup))
        assert group.state == GroupState.HELD
        assert "no source in the beam" in group.reason
        assert "no acceptable bandpass and no gains" in group.reason
        assert not list(session.scalars(select(Mosaic)))
    catalogues.save(root, good)
    assert claims.retry(_registry(root), claims.GROUPS, group.id)
    manager = _manager(root)
    manager.run()
    assert [done.published for done in manager.finished] == [True]
    with _registry(root).read() as session:
        (audit,) = session.scalars(select(CalibrationChoice))
    assert audit.subject == manager.finished[0].name
    assert audit.bandpass_id == audit.gains_id
    assert "solved on this observation" in audit.reasons[audit.gains_id]


def test_a_watch_remembers_what_is_recorded_and_sees_changes(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    paths = _link(small_run.files[0][:4], incoming)
    registry = _registry(root)
    watch = ingest.Watch(registry, incoming)
    found = watch.new_files(0.0)
    assert [file.path for file in found] == sorted(paths)
    assert watch.new_files(0.0) == found, "nothing is remembered that is not recorded"
    ingest.register(registry, found, read, 300.0, False)
    assert watch.new_files(0.0) == []
    assert ingest.Watch(registry, incoming).new_files(0.0) == []
    shutil.copy(paths[1], incoming / "copy")
    (incoming / "copy").replace(paths[1])
    assert [file.path for file in watch.new_files(0.0)] == [paths[1]]
    paths[0].unlink()
    watch.new_files(0.0)
    assert set(watch._settled) == {path.name for path in paths[1:]}, "what is gone is forgotten"


def test_a_file_that_cannot_be_read_is_looked_at_again_ever_more_rarely(
    root: Path, incoming: Path, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = _link(small_run.files[0][:1], incoming)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    registry = _registry(root)
    watch = ingest.Watch(registry, incoming)
    start = now = time.time()
    monkeypatch.setattr(ingest.time, "time", lambda: now)
    looks = []
    while now < start + 20_000:
        new = watch.new_files(0.0)
        if new:
            looks.append(now - start)
            ingest.register(registry, new, read, 300.0, False)
        now += 5
    assert 8 < len(looks) < 25
    assert looks[-1] - looks[-2] <= 3600
    with registry.read() as session:
        row = session.scalars(select(SubbandFile)).one()
        assert row.state == FileState.REJECTED
        assert "truncated" in row.reason
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    ingest.register(registry, watch.new_files(0.0), read, 300.0, False)
    with registry.read() as session:
        assert session.scalars(select(SubbandFile)).one().state == FileState.REGISTERED


class _StuckOn(InlineExecutor):
    """An executor whose calls end at their time-out if a certain file is among them."""

    def __init__(self, path: Path):
        self._path = path

    def submit(self, function: object, **arguments: object) -> "Future[object]":
        if self._path in arguments["paths"]:  # type: ignore[operator]
            future: Future[object] = Future()
            future.set_exception(RetryableError("read_headers was ended at its time-out of 5 s"))
            return future
        return super().submit(function, **arguments)  # type: ignore[arg-type]


def test_a_file_that_keeps_hdf5_busy_for_ever_costs_only_itself(small_run: SmallRun) -> None:
    paths = small_run.files[0]
    found = HeaderReader(_StuckOn(paths[3]), DSA110)(paths)
    assert isinstance(found[3], BadInputError)
    assert paths[3].name in str(found[3])
    assert "time-out" in str(found[3])
    numbers = [one[1] for one in found if not isinstance(one, BadInputError)]
    assert sorted([*numbers, 3]) == list(range(16))


@pytest.mark.parametrize("absurd", ["times", "frequencies", "link"])
def test_one_absurd_file_holds_up_no_other(
    absurd: str, root: Path, incoming: Path, small_run: SmallRun
) -> None:
    import h5py

    _link(small_run.files[0], incoming)
    bad = incoming / small_run.files[1][0].name
    if absurd == "link":
        bad.symlink_to(bad)
    else:
        shutil.copy(small_run.files[1][0], bad)
        with h5py.File(bad, "r+") as file:
            if absurd == "times":
                file["Header/time_array"][:] = 1e9 + file["Header/time_array"][:]
            else:
                file["Header/freq_array"][:] = np.inf
    _converter(root, incoming).run()
    with _registry(root).read() as session:
        states = [tile.state for tile in session.scalars(select(Tile))]
    assert states == [TileState.CONVERTED]


def test_a_batch_run_never_takes_a_published_mosaics_name(streamed_anywhere: Path) -> None:
    from dsa110_contimg import records
    from dsa110_contimg.artifacts.mosaics import MosaicImage, Validation
    from dsa110_contimg.errors import PermanentError
    from dsa110_contimg.pipeline.context import StageContext
    from dsa110_contimg.stages.registration import RegistrationStage

    with _registry(streamed_anywhere).read() as session:
        (row,) = session.scalars(select(Mosaic))
    mosaic = records.from_json(MosaicImage, row.record["mosaic"])
    validation = records.from_json(Validation, row.record["validation"])
    with pytest.raises(PermanentError, match="give the new one another name"):
        RegistrationStage().run(StageContext(streamed_anywhere), mosaic, validation)
    with _registry(streamed_anywhere).read() as session:
        assert session.scalars(select(Mosaic.state)).one() == "published"


def test_a_cross_match_waits_out_an_outage_however_long(
    streamed_anywhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsa110_contimg.errors import OutageError
    from dsa110_contimg.streaming.owed import OwedCrossmatches

    registry, settings = _registry(streamed_anywhere), settings_module.load(root=streamed_anywhere)
    with registry.write() as session:
        (mosaic,) = session.scalars(select(Mosaic))
        mosaic.crossmatch = "owed"
    owed = OwedCrossmatches(
        registry,
        settings,
        small_options(streamed_anywhere).crossmatch,
        InlineExecutor(),
        lambda: None,
    )
    for _ in range(5):
        owed._settle(mosaic.name, OutageError("disk full"))
    with registry.read() as session:
        assert session.scalars(select(Mosaic.crossmatch)).one() == "owed"
    owed.close()


def test_a_converted_tile_whose_measurement_set_is_damaged_is_converted_again(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    for files in small_run.files:
        _link(files, incoming)
    _converter(root, incoming).run()
    with _registry(root).read() as session:
        tile = session.scalars(select(Tile).order_by(Tile.start)).first()
    damaged = Path(tile.ms_path) / "table.dat"
    damaged.write_bytes(b"")
    _manager(root).run()
    with _registry(root).read() as session:
        (group,) = session.scalars(select(MosaicGroup))
    assert group.state == GroupState.QUARANTINED
    assert Path(tile.ms_path).name in group.reason
    command = CliRunner().invoke(app, ["retry", "--convert", tile.id, "--root", str(root)])
    assert command.exit_code == 0, command.output
    assert claims.retry(_registry(root), claims.GROUPS, group.id)
    manager = _manager(root)
    manager.cycle()
    with _registry(root).read() as session:
        waiting = session.get_one(MosaicGroup, group.id)
    _converter(root, incoming).run()
    manager.run()
    assert [done.published for done in manager.finished] == [True], waiting.reason
    command = CliRunner().invoke(app, ["retry", "--convert", "nothing", "--root", str(root)])
    assert command.exit_code != 0
    assert "is no converted tile" in str(command.exception)


def test_what_was_written_before_the_clock_was_set_back_holds_up_nothing(
    root: Path, incoming: Path, small_run: SmallRun
) -> None:
    """A machine started with its clock a year ahead, and then got the time from the network."""
    year = 365 * 86400.0
    for files in small_run.files:
        _link(files[:14], incoming)
    converter = _converter(root, incoming, once=False, settle_s=0.0, grace_s=600.0)
    converter.cycle()
    with _registry(root).write() as session:
        for tile in session.scalars(select(Tile)):
            tile.last_arrival += year
            tile.not_before = tile.lease_until = time.time() + year
    _converter(root, incoming, once=False).cycle()
    settings = settings_module.load(root=root)
    with _registry(root).read() as session:
        for tile in session.scalars(select(Tile)):
            assert tile.last_arrival <= time.time()
            assert tile.lease_until <= time.time() + settings.lease_s
            assert tile.not_before <= time.time() + settings.retry_delay_s * 2**3
        (told,) = session.scalars(select(Event).where(Event.subject == "clock"))
    assert "set back" in told.message


def test_every_published_mosaic_is_drawn_on_the_sky_and_goes_when_it_is_held(
    streamed_anywhere: Path,
) -> None:
    settings = settings_module.load(root=streamed_anywhere, workers=1, hips=True)
    registry = Registry.of(settings)
    manager = StreamingMosaicManager(registry, settings, InlineExecutor(), once=True)
    manager.run()
    folder = layout.hips(streamed_anywhere)
    with registry.read() as session:
        (name,) = session.scalars(select(Mosaic.name))
    assert sky_survey.is_current(registry, streamed_anywhere)
    assert (folder / name / "Moc.fits").exists()
    drawn = hips.Hips.open(folder / layout.ALL_SKY)
    assert drawn is not None
    assert drawn.numbers(drawn.order) == hips.Hips.open(folder / name).numbers(drawn.order)
    arguments = [name, "--reason", "a test", "--root", str(streamed_anywhere)]
    assert CliRunner().invoke(app, ["hold", *arguments]).exit_code == 0
    assert CliRunner().invoke(app, ["hips", "--root", str(streamed_anywhere)]).exit_code == 0
    assert survey.is_current(folder, {})
    assert not (folder / name).exists()
    assert drawn.numbers(drawn.order) == []


def test_old_observations_that_come_late_are_grouped_and_finished_ones_are_not_looked_at(
    root: Path,
) -> None:
    manager = _manager(root)
    year, now = 365 * 86400.0, time.time()
    begin = now - year
    with _registry(root).write() as session:
        for day, arrived in ((0, begin), (100, begin + 100 * 86400.0), (-400, now - 3600.0)):
            first = begin + day * 86400.0
            for n in range(3):
                session.add(
                    Tile(
                        id=f"d{day}_{n}",
                        time_key=first + n,
                        start=first + 309.0 * n,
                        apparent_dec_deg=16.2,
                        state=TileState.CONVERTED,
                        last_arrival=arrived,
                        converted_at=arrived,
                    )
                )
            if day >= 0:
                ids = [f"d{day}_{n}" for n in range(3)]
                group = MosaicGroup(
                    id=ids[0], start=first, tile_ids=ids, state=GroupState.PUBLISHED
                )
                session.add(group)
    assert manager._horizon() == 0.0, "the late ones lie before every group"
    settings = manager._settings
    late = manager._complete_groups(settings.group_size, True, manager._horizon())
    assert late == [["d-400_0", "d-400_1", "d-400_2"]]
    with _registry(root).write() as session:
        for tile in session.scalars(select(Tile)):
            tile.last_arrival = tile.converted_at = begin
        session.get_one(Tile, "d100_2").last_arrival = now
    assert manager._horizon() == begin, "nothing before can change"


def test_a_converted_tile_wakes_the_mosaic_daemon(tmp_path: Path) -> None:
    stop = daemon.Stop()
    stop.listen(bell.listen(tmp_path))
    assert bell.listen(tmp_path) is None, "one daemon of a root listens"
    bell.ring(tmp_path)
    begin = time.monotonic()
    stop.wait(30.0)
    assert time.monotonic() - begin < 5.0
    begin = time.monotonic()
    stop.wait(0.2)
    assert time.monotonic() - begin >= 0.2, "one ring wakes once"
    stop.close()
    bell.ring(tmp_path)
