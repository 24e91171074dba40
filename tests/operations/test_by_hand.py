"""Operators decide: what validation held is published, what was published is taken back."""

from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from dsa110_contimg import settings as settings_module
from dsa110_contimg.cli.common import person
from dsa110_contimg.cli.main import app
from dsa110_contimg.cli.mosaic import mosaic as mosaic_app
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.operations.verdicts import hold_by_hand, publish_by_hand
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.file_check import check_files
from dsa110_contimg.registry.models import Event, Mosaic, MosaicGroup, Product, TileImage
from dsa110_contimg.registry.states import GroupState
from dsa110_contimg.streaming import StreamingMosaicManager


def _registry(root: Path) -> Registry:
    return Registry.of(settings_module.load(root=root))


def _names(root: Path) -> set[str]:
    return {path.name for path in (root / "products").rglob("*") if path.is_file()}


def test_what_is_taken_back_and_published_again_is_the_same(streamed: Path) -> None:
    registry = _registry(streamed)
    before = _names(streamed)
    with registry.read() as session:
        (name,) = session.scalars(select(Mosaic.name))
        checksums = dict(session.execute(select(Product.path, Product.sha256)).all())
    held = hold_by_hand(registry, streamed, name, "a satellite in tile 2", "me")
    assert _names(streamed) == set()
    assert held.path.exists()
    with registry.read() as session:
        assert session.get_one(Mosaic, name).state == "held"
        (group,) = session.scalars(select(MosaicGroup))
        assert (group.state, group.reason) == (GroupState.HELD, "by hand: a satellite in tile 2")
        assert not list(session.scalars(select(Product)))
    with pytest.raises(UsageError, match="is held, not published"):
        hold_by_hand(registry, streamed, name, "again", "me")
    publish_by_hand(registry, streamed, name, "it was the Moon", "me")
    with pytest.raises(UsageError, match="published already"):
        publish_by_hand(registry, streamed, name, "again", "me")
    # The catalogue of its sources is owed, and made by the daemon.
    settings = settings_module.load(root=streamed, workers=1)
    StreamingMosaicManager(registry, settings, InlineExecutor(), once=True).run()
    assert _names(streamed) == before
    with registry.read() as session:
        again = dict(session.execute(select(Product.path, Product.sha256)).all())
        told = list(session.scalars(select(Event.message).where(Event.level == "warning")))
    assert again == checksums
    assert all(sha256(Path(path)) == checksum for path, checksum in again.items())
    assert sum("by hand" in message for message in told) == 2


def test_files_left_by_a_crash_while_taking_back_are_not_adopted_again(
    streamed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = _registry(streamed)
    with registry.read() as session:
        (name,) = session.scalars(select(Mosaic.name))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    hold_by_hand(registry, streamed, name, "x", "me")
    monkeypatch.undo()
    assert _names(streamed)
    check_files(registry, streamed, dry_run=False)
    public = [streamed / "products" / name for name in ("mosaics", "catalogues")]
    assert not [path for folder in public for path in folder.glob("*.fits")]
    with registry.read() as session:
        assert session.get_one(Mosaic, name).state == "held"


def test_the_commands_say_what_there_is(streamed: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(mosaic_app, ["list", "--root", str(streamed)])
    header, row = listed.stdout.splitlines()
    assert header.split()[0] == "mosaic"
    assert header.split()[-4:] == ["state", "verdict", "made", "by"]
    name = row.split()[0]
    assert "published" in row
    shown = runner.invoke(mosaic_app, ["show", name, "--root", str(streamed)])
    for word in ("stripes", "rms", "mJy/beam", "tiles: 2026", "products/mosaics"):
        assert word in shown.stdout
    held = runner.invoke(app, ["hold", name, "--reason", "no", "--root", str(streamed)])
    assert held.exit_code == 0, held.output
    shown = runner.invoke(mosaic_app, ["show", name, "--root", str(streamed)])
    assert f"by hand ({person()}): no" in shown.stdout
    assert "held" in runner.invoke(mosaic_app, ["list", "--root", str(streamed)]).stdout


def test_a_tile_has_a_page_of_evidence_that_stands_alone(streamed: Path, tmp_path: Path) -> None:
    with _registry(streamed).read() as session:
        tile_id = session.scalars(select(TileImage.tile_id)).first()
        (name,) = session.scalars(select(Mosaic.name))
    page = tmp_path / "tile.html"
    arguments = ["report", tile_id, "--output", str(page), "--root", str(streamed)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    text = page.read_text()
    assert text.count("data:image/png;base64,") >= 3
    for told in ("flagged first for", "Bandpass: every antenna", "flux ratio", name, "rms "):
        assert told in text
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    arguments[1] = name
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert name in page.read_text()
    assert "Timings" in page.read_text()
    arguments[1] = "nothing"
    assert "has no tile image" in str(CliRunner().invoke(app, arguments).exception)
