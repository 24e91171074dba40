"""A root may be moved or copied: what is done in one place touches no file of another."""

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from dsa110_contimg import settings as settings_module
from dsa110_contimg.cli.main import app
from dsa110_contimg.registry import care, migrations
from dsa110_contimg.registry.database import Registry, make_engine
from dsa110_contimg.registry.file_check import check_files
from dsa110_contimg.registry.models import (
    CalibrationSet,
    Mosaic,
    Product,
    SubbandFile,
    Tile,
    TileImage,
)


def _run(root: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--root", str(root)])
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    return done.output


def _paths(root: Path) -> Iterator[Path]:
    """Every path that a row of the root's database holds."""
    registry = Registry.of(settings_module.load(root=root))
    with registry.read() as session:
        for column in (SubbandFile.path, Tile.ms_path, CalibrationSet.path, Product.path):
            yield from (Path(path) for path in session.scalars(select(column)))
        for record in session.scalars(select(TileImage.record)):
            yield Path(f"{record['prefix']}.image.fits")
        for record in session.scalars(select(Mosaic.record)):
            yield Path(record["mosaic"]["path"])
        for converted in session.scalars(select(Tile.converted)):
            assert converted is not None
            yield Path(converted["ms_path"])
    registry.close()


def _mosaic(root: Path) -> str:
    registry = Registry.of(settings_module.load(root=root))
    with registry.read() as session:
        name = session.scalars(select(Mosaic.name)).one()
    registry.close()
    return name


def _checksums(root: Path) -> dict[str, str]:
    files = (path for path in sorted((root / "products").rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_what_is_done_in_a_copy_leaves_the_original_alone(streamed: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(streamed, copied)
    before, name = _checksums(streamed), _mosaic(copied)
    _run(copied, "hold", name, "--reason", "a test of copies")
    assert not list((copied / "products" / "mosaics").iterdir())
    assert _checksums(streamed) == before
    _run(copied, "publish", name, "--reason", "good after all")
    assert {path.name for path in (copied / "products" / "mosaics").iterdir()} == {
        path.name for path in (streamed / "products" / "mosaics").iterdir()
    }


def test_a_moved_root_works_where_it_is(streamed: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    streamed.rename(moved)
    assert {path for path in _paths(moved) if not path.exists() or moved not in path.parents} == (
        set()
    )
    registry = Registry.of(settings_module.load(root=moved))
    assert check_files(registry, moved, checksums=True, dry_run=True) == []
    registry.close()
    _run(moved, "report", _mosaic(moved), "--output", str(tmp_path / "report.html"))
    _run(moved, "hold", _mosaic(moved), "--reason", "a test of moves")
    assert not streamed.exists()


_RENAMED = {"told": "notified"}


def _as_version_0009(root: Path) -> None:
    """Give a root the database that it would have had when paths were absolute."""
    database = root / "state" / "products.sqlite3"
    today = database.with_name("today.sqlite3")
    for path in sorted(database.parent.glob(f"{database.name}*")):
        path.rename(path.with_name(path.name.replace(database.name, today.name)))
    engine = make_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        migrations.upgrade(connection, to="0009")
    engine.dispose()
    with sqlite3.connect(database) as old:
        old.execute("ATTACH ? AS today", [str(today)])
        for (table,) in old.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'alembic%'"
        ).fetchall():
            columns = [
                (name, kind)
                for _, name, kind, *_ in old.execute(f"PRAGMA main.table_info({table})")
            ]
            values = [
                f"replace({name}, '{{root}}', '{root}')"
                if kind.startswith(("VARCHAR", "JSON", "TEXT"))
                else _RENAMED.get(name, name)
                for name, kind in columns
            ]
            names = ", ".join(name for name, _ in columns)
            old.execute(
                f"INSERT INTO main.{table} ({names}) SELECT {', '.join(values)} FROM today.{table}"
            )
    old.close()


@pytest.mark.parametrize("is_moved", [False, True])
def test_an_upgrade_finds_what_the_root_was_called(
    streamed: Path, tmp_path: Path, is_moved: bool
) -> None:
    _as_version_0009(streamed)
    with sqlite3.connect(streamed / "state" / "products.sqlite3") as old:
        # It was moved before and its input seen again: a file has two rows.
        old.execute(
            "INSERT INTO subband_files (path, size, mtime_ns, first_seen, state, reason) SELECT "
            "replace(path, ?, '/before'), size, mtime_ns, first_seen, 'duplicate', '' "
            "FROM subband_files",
            [str(streamed)],
        )
        old.execute(
            "UPDATE calibration_sets SET path = replace(path, ?, '/before')", [str(streamed)]
        )
    old.close()
    root = tmp_path / "later" if is_moved else streamed
    if is_moved:
        streamed.rename(root)
    settings = settings_module.load(root=root)
    before, after, _ = care.upgrade(settings.database, root)
    assert (before, after) == ("0009", migrations.HEAD)
    found = list(_paths(root))
    assert found
    assert all(path.exists() and root in path.parents for path in found)
