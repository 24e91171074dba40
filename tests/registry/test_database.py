"""Looking after the database: versions, backup, copies, and files that disagree with it."""

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, inspect, select, text, update
from typer.testing import CliRunner

from conftest import SmallRun, make_root, new_postgres_database
from dsa110_contimg import settings as settings_module
from dsa110_contimg.batch import plans
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import NothingToDo, PermanentError, UsageError
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.registry import care, claims, migrations
from dsa110_contimg.registry.database import Registry, make_engine
from dsa110_contimg.registry.file_check import check_files
from dsa110_contimg.registry.models import (
    Base,
    Event,
    Mosaic,
    MosaicGroup,
    Product,
    SubbandFile,
    Tile,
    TileImage,
)
from dsa110_contimg.registry.states import GroupState, TileState
from dsa110_contimg.streaming import StreamingConverter, StreamingMosaicManager

OLD = Path(__file__).parents[1] / "data" / "database_v2.sql"
"""Dump of a database that release 0.1 (schema version 2) left when its daemons were killed: two
tiles converted, one half, and a mosaic group begun."""


def _old_database(path: Path, work: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD.read_text().replace("@WORK@", str(work)))
    connection.close()
    return f"sqlite:///{path}"


def test_a_new_database_is_what_the_models_say(database_url: str) -> None:
    registry = Registry(database_url, None)
    assert care.revision(registry) == migrations.HEAD
    assert care.check(registry) == []
    registry.close()


def test_the_version_wanted_is_the_newest_step_there_is() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "dsa110_contimg.registry:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


@pytest.mark.parametrize(("version", "todo"), [("0002", "db upgrade"), ("9999", "newer")])
def test_another_version_is_refused_with_what_to_do(
    database_url: str, version: str, todo: str
) -> None:
    registry = Registry(database_url, None)
    with registry.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    with pytest.raises(PermanentError, match=todo):
        Registry(database_url, None)
    registry.close()


def test_an_upgrade_keeps_the_rows_of_work_in_flight_and_a_backup(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    old = _old_database(tmp_path / "old.sqlite3", tmp_path)
    copied = new_postgres_database(request.getfixturevalue("postgres"))
    care.copy(old, copied)
    for url in (old, copied):
        with pytest.raises(PermanentError, match="schema version 0002"):
            Registry(url, None)
        engine = make_engine(url)
        with engine.begin() as connection:
            plan = json.dumps(
                {
                    "name": "old",
                    "method": "weighted",
                    "since": 5.0,
                    "until": None,
                    "include_uncorrected": True,
                    "tiles": [],
                }
            )
            connection.execute(
                text("INSERT INTO plans (name, created, document) VALUES ('old', 0, :plan)"),
                {"plan": plan},
            )
        engine.dispose()
        before, after, backup = care.upgrade(url, tmp_path / url[:4])
        assert (before, after) == ("0002", migrations.HEAD)
        registry = Registry(url, None)
        assert care.check(registry) == []
        with registry.read() as session:
            states = {
                str(state): n
                for state, n in session.execute(
                    select(Tile.state, func.count()).group_by(Tile.state)
                )
            }
            assert states == {TileState.CONVERTED: 2, TileState.CONVERTING: 1}
            assert session.scalars(select(MosaicGroup)).one().state == GroupState.PROCESSING
            assert session.scalar(select(func.count(SubbandFile.path))) == 48
        stored = plans.load_plan(registry, "old")
        assert (stored.options.method, stored.selection.since) == ("weighted", 5.0)
        assert stored.selection.include_uncorrected
        with registry.write() as session:
            session.add(Event(at=0.0, level="info", subject="s", message="numbers go on"))
        registry.close()
        with pytest.raises(NothingToDo):
            care.upgrade(url, tmp_path)
        with pytest.raises(PermanentError, match="schema version 0002"):
            Registry(f"sqlite:///{backup}", None)


def test_an_upgrade_fills_new_columns_from_the_records(database_url: str, tmp_path: Path) -> None:
    """The mosaic waits for its operator, and a daemon works on the next group."""
    engine = make_engine(database_url)
    mosaic = {"path": "{root}/a/m.fits", "tile_ids": ["t0", "t1"], "median_rms_jy": 0.002}
    with engine.begin() as connection:
        migrations.upgrade(connection, tmp_path, to="0012")
        connection.execute(
            text(
                "INSERT INTO mosaics (name, group_id, start, method, state, verdict, crossmatch, "
                "record) VALUES ('m', 'g', 0, 'mean', 'held', 'failed', 'done', :record)"
            ),
            {"record": json.dumps({"mosaic": mosaic, "validation": {}})},
        )
        connection.execute(
            text(
                "INSERT INTO images (id, tile_id, calibration_set_id, options_key, start, "
                "beam_corrected, record) VALUES (1, 't0', 's', 'k', 0, :yes, :record)"
            ),
            {"yes": True, "record": json.dumps({"prefix": "{root}/images/t0_1/t0"})},
        )
        connection.execute(
            text(
                "INSERT INTO mosaic_groups (id, start, tile_ids, state, attempt, failures, owner, "
                "lease_until, not_before, reason) VALUES ('h', 0, :tiles, 'processing', 3, 0, "
                "'me', 9e9, 0, '')"
            ),
            {"tiles": json.dumps(["t1"])},
        )
        migrations.upgrade(connection, tmp_path)
    engine.dispose()
    registry = Registry(database_url, tmp_path)
    with registry.read() as session:
        row = session.get_one(Mosaic, "m")
        assert (row.path, row.n_tiles, row.median_rms_jy) == (f"{tmp_path}/a/m.fits", 2, 0.002)
        assert session.get_one(TileImage, 1).folder == f"{tmp_path}/images/t0_1"
    assert care.check(registry) == []
    with registry.write() as session:
        claims.change(session, claims.Claim(claims.GROUPS, "h", 3), state=GroupState.HELD)
    registry.close()


def test_a_half_done_upgrade_leaves_the_old_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _old_database(tmp_path / "old.sqlite3", tmp_path)
    upgrade = migrations.upgrade

    def cut_short(connection: object, root: Path | None = None, to: str = migrations.HEAD) -> None:
        upgrade(connection, root, to)  # type: ignore[arg-type]
        if to == migrations.HEAD:
            raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "upgrade", cut_short)
    with pytest.raises(KeyboardInterrupt):
        care.upgrade(url, tmp_path)
    monkeypatch.undo()
    assert care.upgrade(url, tmp_path / "again")[:2] == ("0002", migrations.HEAD)


def test_the_daemons_finish_what_an_older_release_had_begun(
    tmp_path: Path, small_run: SmallRun
) -> None:
    root = make_root(tmp_path / "root", small_run)
    (root / "contimg.toml").write_text(
        (root / "contimg.toml").read_text().replace("group_size = 3", "group_size = 2")
    )
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    url = _old_database(root / "state" / "products.sqlite3", tmp_path)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        known = dict(connection.execute("SELECT path, mtime_ns FROM subband_files"))
    connection.close()
    for path in (path for files in small_run.files for path in files):
        (incoming / path.name).write_bytes(path.read_bytes())
        moment = known[str(incoming / path.name)]
        os.utime(incoming / path.name, ns=(moment, moment))
    run = CliRunner()
    assert run.invoke(app, ["db", "upgrade", "--root", str(root)]).exit_code == 0
    # The Measurement Sets stayed behind on the old machine.
    done = run.invoke(app, ["db", "check", "--files", "--root", str(root)])
    assert done.exit_code == 0, done.output
    assert done.output.count("will be converted again") == 2
    settings = settings_module.load(root=root, workers=1)
    registry = Registry.of(settings)
    StreamingConverter(incoming, root / "ms", registry, settings, InlineExecutor(), once=True).run()
    StreamingMosaicManager(registry, settings, InlineExecutor(), once=True).run()
    with registry.read() as session:
        group = session.scalars(select(MosaicGroup).order_by(MosaicGroup.start)).first()
        assert group is not None
        assert group.state == GroupState.PUBLISHED, group.reason
        assert all(tile.attempt == 2 for tile in session.scalars(select(Tile)))
    registry.close()


def test_a_backup_is_made_while_somebody_writes_and_never_replaces_one(
    streamed: Path, tmp_path: Path
) -> None:
    registry = Registry.of(settings_module.load(root=streamed))
    kept = tmp_path / "kept.sqlite3"
    with registry.write() as session:
        session.add(Event(at=0.0, level="info", subject="s", message="not committed yet"))
        session.flush()
        rows = care.backup(registry.url, kept)
    assert rows["subband_files"] == 48
    restored = Registry(f"sqlite:///{kept}", None)
    assert care.check(restored) == []
    with restored.read() as session:
        assert session.scalar(select(Event.id).where(Event.message == "not committed yet")) is None
    restored.close()
    with pytest.raises(UsageError, match="never replaces"):
        care.backup(registry.url, kept)
    registry.close()


def test_a_copy_to_another_kind_of_database_is_equal_and_goes_on(
    streamed: Path, postgres: str
) -> None:
    url, target = settings_module.load(root=streamed).database, new_postgres_database(postgres)
    care.copy(url, target)
    with pytest.raises(PermanentError, match="holds tables already"):
        care.copy(url, target)
    registry = Registry(target, streamed)
    settings = settings_module.load(root=streamed, database_url=target, workers=1)
    StreamingMosaicManager(registry, settings, InlineExecutor(), once=True).run()
    registry.record_event("s", "numbers go on")
    with registry.read() as session:
        assert session.scalars(select(MosaicGroup)).one().state == GroupState.PUBLISHED
    registry.close()
    back = streamed / "back.sqlite3"
    care.backup(target, back)
    restored = Registry(f"sqlite:///{back}", None)
    assert care.check(restored) == []
    restored.close()


def test_a_damaged_database_is_noticed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite3'}"
    registry = Registry(url, None)
    assert care.check(registry) == []
    registry.close()
    with sqlite3.connect(tmp_path / "a.sqlite3") as connection:
        connection.execute("DROP TABLE alerts")
        connection.execute(
            "INSERT INTO subband_files (path, size, mtime_ns, first_seen, state, reason, tile_id) "
            "VALUES ('a', 1, 1, 1, 'registered', '', 'nobody')"
        )
    connection.close()
    registry = Registry(url, None)
    wrong = "\n".join(care.check(registry))
    registry.close()
    assert "alerts" in wrong
    assert "table subband_files, row 1: refers to a row of tiles that is not there" in wrong


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dsa110_contimg.registry.database as database

    monkeypatch.setattr(database, "_file_system", lambda folder: "nfs4")
    with pytest.raises(PermanentError, match="where SQLite's locks may not hold"):
        make_engine(f"sqlite:///{tmp_path / 'a.sqlite3'}")


def test_tables_know_no_column_that_a_step_forgot(database_url: str) -> None:
    registry = Registry(database_url, None)
    there = inspect(registry.engine)
    for table in Base.metadata.sorted_tables:
        columns = {column["name"] for column in there.get_columns(table.name)}
        assert columns == {column.name for column in table.columns}
    registry.close()


class TestFilesThatDisagree:
    """`db check --files` after a restore."""

    @pytest.fixture
    def registry(self, streamed: Path) -> Iterator[Registry]:
        registry = Registry.of(settings_module.load(root=streamed))
        yield registry
        registry.close()

    def test_nothing_is_said_about_what_agrees(self, registry: Registry, streamed: Path) -> None:
        assert check_files(registry, streamed, checksums=True) == []

    def test_a_published_mosaic_that_an_old_backup_does_not_know_is_adopted(
        self, registry: Registry, streamed: Path
    ) -> None:
        with registry.write() as session:
            before = {product.path: product.sha256 for product in session.scalars(select(Product))}
            session.execute(delete(Product))
            session.execute(delete(Mosaic))
            session.execute(update(MosaicGroup).values(state=GroupState.READY, finished_at=None))
        found = check_files(registry, streamed)
        assert [finding.action for finding in found] == ["adopted"]
        settings = settings_module.load(root=streamed, workers=1)
        # The catalogue of its sources is owed again.
        StreamingMosaicManager(registry, settings, InlineExecutor(), once=True).run()
        with registry.read() as session:
            assert {
                product.path: product.sha256 for product in session.scalars(select(Product))
            } == before
            assert session.scalars(select(MosaicGroup)).one().state == GroupState.PUBLISHED
            assert session.scalars(select(Mosaic)).one().state == "published"
        assert check_files(registry, streamed, checksums=True) == []

    def test_a_dry_run_says_the_same_and_changes_nothing(
        self, registry: Registry, streamed: Path
    ) -> None:
        with registry.write() as session:
            path = Path(session.scalars(select(Product.path)).first() or "")
            ms_path = Path(session.scalars(select(Tile.ms_path)).first() or "")
        path.write_bytes(path.read_bytes()[:-1])
        ms_path.rename(ms_path.with_suffix(".away"))
        first = check_files(registry, streamed, dry_run=True)
        assert len(first) == 2
        assert check_files(registry, streamed, dry_run=True) == first
        assert check_files(registry, streamed) == first

    def test_a_damaged_product_is_put_aside_and_its_group_waits_for_an_operator(
        self, registry: Registry, streamed: Path
    ) -> None:
        with registry.read() as session:
            path = Path(session.scalars(select(Product.path).where(Product.kind == "mosaic")).one())
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert check_files(registry, streamed) == [], "the size is right"
        (found,) = check_files(registry, streamed, checksums=True)
        assert "differs from what was published" in found.problem
        assert not list(path.parent.iterdir()), "what belongs to it went aside with it"
        run = CliRunner()
        listed = run.invoke(app, ["quarantine", "list", "--json", "--root", str(streamed)])
        (waiting,) = json.loads(listed.stdout)
        assert path.name in waiting["reason"]
        released = run.invoke(
            app, ["quarantine", "release", waiting["id"], "--root", str(streamed)]
        )
        assert released.exit_code == 0
        settings = settings_module.load(root=streamed, workers=1)
        StreamingMosaicManager(registry, settings, InlineExecutor(), once=True).run()
        assert path.exists(), "made again"
        assert bytes(content) != path.read_bytes()
        assert check_files(registry, streamed, checksums=True) == []

    def test_strangers_among_the_products_are_put_aside(
        self, registry: Registry, streamed: Path
    ) -> None:
        folder = streamed / "products" / "mosaics"
        (folder / "mine.fits").write_text("a stranger")
        (folder / "notes.json").write_text("[]")
        found = check_files(registry, streamed)
        assert {Path(one.subject).name for one in found} == {"mine.fits", "notes.json"}
        assert not (folder / "mine.fits").exists()
        assert len(list((streamed / "products" / "quarantine").iterdir())) == 2

    def test_what_cannot_be_made_again_is_quarantined(
        self, registry: Registry, streamed: Path
    ) -> None:
        with registry.write() as session:
            tile = session.scalars(select(Tile).order_by(Tile.start)).first()
            assert tile is not None
            session.execute(update(MosaicGroup).values(state=GroupState.READY))
            Path(tile.ms_path).rename(tile.ms_path + ".away")
            for path in session.scalars(
                select(SubbandFile.path).where(SubbandFile.tile_id == tile.id)
            ):
                Path(path).unlink()
        (found,) = [one for one in check_files(registry, streamed) if one.subject == tile.id]
        assert "sub-band files are gone too" in found.action
