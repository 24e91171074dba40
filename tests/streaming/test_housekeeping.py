"""What is done with goes, what is needed stays, and a full disk stops new work."""

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from conftest import SmallRun, make_root
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch import plans
from dsa110_contimg.cli.main import app
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.operations.batch_programs import protected
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import (
    Event,
    Mosaic,
    MosaicGroup,
    Plan,
    Product,
    SubbandFile,
    Tile,
    TileImage,
)
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.settings import Settings
from dsa110_contimg.streaming import StreamingConverter, housekeeping
from dsa110_contimg.streaming.disk import DiskGuard

HOUR = 3600.0
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def root(streamed_anywhere: Path) -> Path:
    return streamed_anywhere


def _settings(root: Path, **given: object) -> Settings:
    return settings_module.load(root=root, workers=1, **given)


def _kinds(removals: list[housekeeping.Removal]) -> dict[str, int]:
    kinds = [removal.kind for removal in removals]
    return {kind: kinds.count(kind) for kind in kinds}


def test_nothing_goes_by_default_but_what_no_row_names(root: Path) -> None:
    settings = _settings(root)
    registry = Registry.of(settings)
    assert housekeeping.find(registry, settings) == []
    tomorrow = time.time() + 25 * HOUR
    found = housekeeping.find(registry, settings, tomorrow)
    # Calibrated Measurement Sets, and the staging of the published mosaic and its catalogue.
    assert _kinds(found) == {"leftover": 5}
    assert sum("_cal_" in removal.path.name for removal in found) == 3
    assert all(removal.size > 0 for removal in found)


def test_copies_that_a_killed_publishing_left_go_and_products_stay(root: Path) -> None:
    settings = _settings(root, keep_leftovers_h=2.0)
    registry = Registry.of(settings)
    copies = []
    for folder in ("mosaics", "catalogues"):
        product = next(p for p in (root / "products" / folder).iterdir() if p.is_file())
        for name in (f".{product.name}.part-0123abcd", ".profile", "copy.fits"):
            path = product.with_name(name)
            path.write_text("half")
            if name.endswith("abcd"):
                copies.append(path)
    left = {r.path for r in housekeeping.find(registry, settings, time.time() + HOUR)}
    assert not left & set(copies)
    removals = housekeeping.find(registry, settings, time.time() + 3 * HOUR)
    public = [r.path for r in removals if root / "products" in r.path.parents]
    assert sorted(public) == sorted(copies)


def test_intermediate_files_go_when_their_mosaics_are_published_and_their_time_is_over(
    root: Path,
) -> None:
    keep = {"keep_ms_h": 2.0, "keep_images_h": 2.0, "keep_subbands_h": 2.0}
    settings = _settings(root, **keep)
    registry = Registry.of(settings)
    soon, later = time.time() + HOUR, time.time() + 3 * HOUR
    assert housekeeping.find(registry, settings, soon) == []
    found = housekeeping.find(registry, settings, later)
    assert _kinds(found) == {"raw MS": 3, "image": 3, "sub-band file": 48}
    housekeeping.remove(registry, settings, found)
    assert not any(removal.path.exists() for removal in found)
    with registry.read() as session:
        assert set(session.scalars(select(Tile.ms_path))) == {""}
        assert list(session.scalars(select(TileImage))) == []
        assert list(session.scalars(select(SubbandFile))) == [], "rows go with their files"
        for product in session.scalars(select(Product)):
            assert Path(product.path).name in {p.name for p in root.rglob("products/*/*")}
    assert housekeeping.find(registry, settings, later) == []


def test_a_file_that_is_sent_again_after_its_row_is_gone_changes_nothing(
    root: Path, small_run: SmallRun
) -> None:
    settings = _settings(root, keep_subbands_h=0.0, settle_s=0.0)
    registry = Registry.of(settings)
    housekeeping.remove(
        registry, settings, housekeeping.find(registry, settings, time.time() + HOUR)
    )
    os.link(small_run.files[0][0], root / "incoming" / small_run.files[0][0].name)
    StreamingConverter(
        root / "incoming", root / "ms", registry, settings, InlineExecutor(), once=True
    ).run()
    with registry.read() as session:
        assert {tile.attempt for tile in session.scalars(select(Tile))} == {1}
        told = list(session.scalars(select(Event.message).where(Event.level == "warning")))
    assert any("arrived after the tile was converted" in message for message in told)


def test_a_group_that_is_not_published_keeps_its_tiles(root: Path) -> None:
    settings = _settings(root, keep_ms_h=0.0, keep_images_h=0.0)
    registry = Registry.of(settings)
    with registry.write() as session:
        session.scalars(select(MosaicGroup)).one().state = GroupState.HELD
    later = time.time() + 10 * HOUR
    assert housekeeping.find(registry, settings, later) == []


def test_tiles_that_the_next_window_begins_with_stay(root: Path) -> None:
    settings = _settings(root, keep_ms_h=0.0, leftover_s=20 * HOUR)
    registry = Registry.of(settings)
    found = housekeeping.find(registry, settings, time.time() + 10 * HOUR)
    with registry.read() as session:
        tiles = list(session.scalars(select(Tile.id).order_by(Tile.start)))
    assert {removal.tile_id for removal in found} == set(tiles[:-1])


def test_what_a_plan_names_stays(root: Path) -> None:
    settings = _settings(root, keep_images_h=0.0)
    registry = Registry.of(settings)
    later = time.time() + 10 * HOUR
    assert _kinds(housekeeping.find(registry, settings, later)) == {"image": 3}
    plans.plan(registry, "mine")
    assert housekeeping.find(registry, settings, later) == []
    with registry.write() as session:
        session.delete(session.get_one(Plan, "mine"))


def test_work_that_has_begun_meanwhile_keeps_its_input(root: Path) -> None:
    settings = _settings(root, keep_ms_h=0.0)
    registry = Registry.of(settings)
    found = housekeeping.find(registry, settings, time.time() + 10 * HOUR)
    with registry.write() as session:
        session.execute(update(MosaicGroup).values(state=GroupState.READY))
    housekeeping.remove(registry, settings, found)
    assert all(removal.path.exists() for removal in found)


def test_leftovers_of_running_work_and_strangers_stay(root: Path) -> None:
    settings = _settings(root)
    registry = Registry.of(settings)
    (root / "ms" / "my_own.ms").mkdir()
    with registry.write() as session:
        tile_id = session.scalars(select(Tile.id).order_by(Tile.start)).first()
        converting = update(Tile).where(Tile.id == tile_id)
        session.execute(converting.values(state=TileState.CONVERTING))
    half = root / "ms" / f".{tile_id}_ab12cd34.ms.part-0123abcd"
    half.mkdir()
    found = housekeeping.find(registry, settings, time.time() + 25 * HOUR)
    names = [removal.path.name for removal in found]
    assert "my_own.ms" not in names
    assert not any(name.startswith(tile_id) for name in names)
    assert half.name not in names
    assert len(names) == 4


def test_a_dry_run_removes_nothing(root: Path) -> None:
    settings = _settings(root)
    (root / "ms" / "20260101T000000_dead0000.ms").mkdir()
    old = time.time() - 48 * HOUR
    os.utime(root / "ms" / "20260101T000000_dead0000.ms", (old, old))
    for arguments, gone in ((["--dry-run"], False), ([], True)):
        result = CliRunner().invoke(app, ["housekeeping", *arguments, "--root", str(root)])
        assert result.exit_code == 0, result.output
        assert "20260101T000000_dead0000.ms" in result.output
        assert (root / "ms" / "20260101T000000_dead0000.ms").exists() != gone
    assert settings.keep_leftovers_h == 24.0


def test_a_full_disk_stops_new_work_and_room_lets_it_go_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(root, disk_stop_gb=5.0, disk_resume_gb=10.0)
    registry = Registry.of(settings)
    free = 20e9
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 100e9 - free, free))
    guard = DiskGuard(registry, root, settings)
    assert guard.room_for(14e9)
    assert not guard.room_for(16e9)
    free = 14e9
    assert not guard.room_for(5e9), "the higher limit holds until it is reached"
    assert guard.room_for(3e9)
    with registry.read() as session:
        told = list(session.scalars(select(Event.message).where(Event.subject == "disk")))
    assert len(told) == 2
    assert "nothing new begins" in told[0]
    assert "work goes on" in told[1]


def test_the_converter_waits_for_room(
    tmp_path: Path, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path / "root", small_run)
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for path in small_run.files[0]:
        os.link(path, incoming / path.name)
    settings = _settings(root)
    registry = Registry.of(settings)
    converter = StreamingConverter(
        incoming, root / "ms", registry, settings, InlineExecutor(), once=True
    )
    free = 1e9
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 100e9 - free, free))
    converter.run()
    with registry.read() as session:
        assert session.scalars(select(Tile)).one().state == TileState.READY
    free = 50e9
    converter.run()
    with registry.read() as session:
        assert session.scalars(select(Tile)).one().state == TileState.CONVERTED
        assert list(session.scalars(select(Mosaic))) == []


_AT_WORK = """
import sys, time
from pathlib import Path
from dsa110_contimg.operations.batch_programs import protected
with protected(Path(sys.argv[1])):
    print("at work", flush=True)
    time.sleep(600)
"""


def test_a_batch_program_at_work_protects_what_no_row_names_until_it_is_killed(root: Path) -> None:
    settings = _settings(root)
    registry = Registry.of(settings)
    tomorrow = time.time() + 25 * HOUR
    assert housekeeping.find(registry, settings, tomorrow) != []
    with subprocess.Popen(
        [sys.executable, "-c", _AT_WORK, root], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"at work\n"
        assert housekeeping.find(registry, settings, tomorrow) == []
        program.kill()
    assert housekeeping.find(registry, settings, tomorrow) != []
    assert list((root / "state" / "at_work").iterdir()) == [], "a killed one is forgotten"


def test_what_a_batch_program_reads_is_spared(root: Path) -> None:
    settings = _settings(root, keep_subbands_h=0.0, keep_ms_h=0.0)
    registry = Registry.of(settings)
    later = time.time() + HOUR

    def going() -> set[Path]:
        return {removal.path for removal in housekeeping.find(registry, settings, later)}

    everything = going()
    sets = {path for path in everything if path.suffix == ".ms"}
    first = min(sets)
    incoming = next(path.parent for path in everything if path.suffix == ".hdf5")
    with protected(root, [first, incoming]):
        assert sets
        assert going() == sets - {first}
    assert going() == everything
    found = housekeeping.find(registry, settings, later)
    with protected(root, [first, incoming]):
        # Begun after they were found.
        housekeeping.remove(registry, settings, found)
    assert {path for path in everything if path.exists()} == everything - (sets - {first})


def test_copies_that_never_became_public_go_and_public_files_stay(root: Path) -> None:
    settings = _settings(root)
    registry = Registry.of(settings)
    public = root / "products" / "mosaics"
    before = set(public.iterdir())
    half = public / f".{next(iter(before)).name}.part-0123abcd"
    half.write_bytes(b"half a copy")
    found = housekeeping.find(registry, settings, time.time() + 25 * HOUR)
    assert {removal.path for removal in found if removal.path.parent == public} == {half}


def test_rows_of_files_that_a_killed_round_removed_go_too(root: Path) -> None:
    settings = _settings(root, keep_subbands_h=0.0)
    registry = Registry.of(settings)
    with registry.read() as session:
        first = Path(session.scalars(select(SubbandFile.path)).first())
    first.unlink()
    housekeeping.remove(
        registry, settings, housekeeping.find(registry, settings, time.time() + HOUR)
    )
    with registry.read() as session:
        assert list(session.scalars(select(SubbandFile))) == []
