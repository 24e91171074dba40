"""Look after the database: backup, copy to another, upgrade, check."""

import hashlib
import json
import time
from pathlib import Path

from sqlalchemy import JSON, Connection, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.engine import make_url

from dsa110_contimg import layout
from dsa110_contimg.errors import NothingToDo, PermanentError, UsageError
from dsa110_contimg.registry import migrations
from dsa110_contimg.registry.database import Registry, make_engine
from dsa110_contimg.registry.models import Base
from dsa110_contimg.times import COMPACT, iso

_ROWS_AT_ONCE = 500
_BOOKKEEPING = "alembic_version"


def backup(url: str, target: Path) -> dict[str, int]:
    """Copy a database of any version into a new SQLite file, while programs use it.

    Returns
    -------
    dict of str to int
        Rows of each table.

    Raises
    ------
    UsageError
        If the file exists.
    """
    if target.exists():
        raise UsageError(f"{target}: exists already; a backup never replaces one")
    target.parent.mkdir(parents=True, exist_ok=True)
    return copy(url, f"sqlite:///{target}")


def default_backup_path(root: Path) -> Path:
    """Where a backup goes: a name that tells when it was made."""
    stamp = iso(time.time(), COMPACT)
    return layout.backups(root) / f"products-{stamp}.sqlite3"


def copy(source_url: str, target_url: str) -> dict[str, int]:
    """Copy all rows into an empty database, of any kind, and compare them afterwards.

    The rows are one snapshot of the source.

    Parameters
    ----------
    source_url, target_url : str
        SQLAlchemy URLs.

    Returns
    -------
    dict of str to int
        Rows of each table.

    Raises
    ------
    PermanentError
        If the target holds tables already, or its rows differ afterwards.
    """
    source, target = make_engine(source_url), make_engine(target_url)
    try:
        with source.connect() as old, target.connect() as new:
            if old.dialect.name == "postgresql":
                old = old.execution_options(isolation_level="REPEATABLE READ")
            version = migrations.revision(old)
            if not version:
                raise PermanentError(f"{source_url}: holds no tables of this program")
            if inspect(new).get_table_names():
                raise PermanentError(f"{target_url}: holds tables already; copy into an empty one")
            migrations.upgrade(new, to=version)
            counts = _copy_rows(old, new)
            new.commit()
    finally:
        source.dispose()
        target.dispose()
    return counts


def upgrade(url: str, root: Path) -> tuple[str, str, Path]:
    """Bring a database up to date, after a backup.

    Returns
    -------
    tuple of str, str and Path
        Version before and after, and the backup.

    Raises
    ------
    NothingToDo
        If it is up to date.
    """
    registry = Registry(url, root, any_version=True)
    try:
        before = revision(registry)
        if before == migrations.HEAD:
            raise NothingToDo(f"{url}: is at version {before} already")
        if before > migrations.HEAD:
            raise PermanentError(
                f"{url}: version {before} is newer than this program ({migrations.HEAD}); "
                "install the release that made it"
            )
        kept = default_backup_path(root)
        backup(url, kept)
        with registry.write() as session:
            migrations.upgrade(session.connection(), root)
    finally:
        registry.close()
    return before, migrations.HEAD, kept


def revision(registry: Registry) -> str:
    """Version of a database's tables."""
    with registry.read() as session:
        return migrations.revision(session.connection())


def check(registry: Registry) -> list[str]:
    """What is wrong with the database itself; empty if it is sound.

    Its pages (SQLite), references between tables, and tables against what this program expects.
    """
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    wrong = []
    with registry.read() as session:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            wrong += [
                f"integrity: {row[0]}"
                for row in connection.execute(text("PRAGMA integrity_check"))
                if row[0] != "ok"
            ]
            wrong += [
                f"table {row[0]}, row {row[1]}: refers to a row of {row[2]} that is not there"
                for row in connection.execute(text("PRAGMA foreign_key_check"))
            ]
        context = MigrationContext.configure(connection)
        wrong += [
            f"table definition: {difference}"
            for difference in compare_metadata(context, Base.metadata)
        ]
    return wrong


def _copy_rows(old: Connection, new: Connection) -> dict[str, int]:
    there, here = MetaData(), MetaData()
    there.reflect(old)
    here.reflect(new)
    counts = {}
    for table in there.sorted_tables:
        if table.name == _BOOKKEEPING:
            continue
        target = here.tables[table.name]
        rows = old.execute(select(table).order_by(*table.primary_key)).mappings()
        while some := rows.fetchmany(_ROWS_AT_ONCE):
            new.execute(insert(target), [dict(row) for row in some])
        counts[table.name] = int(new.scalar(select(func.count()).select_from(target)) or 0)
        if _digest(old, table) != _digest(new, target):
            raise PermanentError(f"table {table.name}: the copy differs from the original")
        _continue_numbers(new, target)
    return counts


def _digest(connection: Connection, table: Table) -> str:
    """Checksum over all rows, equal for equal rows in any kind of database."""
    digest = hashlib.sha256()
    names = sorted(column.name for column in table.columns)
    lines = []
    for row in connection.execute(select(table)).mappings():
        lines.append(json.dumps([_plain(table, name, row[name]) for name in names]))
    for line in sorted(lines):
        digest.update(line.encode())
    return digest.hexdigest()


def _plain(table: Table, name: str, value: object) -> object:
    if isinstance(table.columns[name].type, JSON):
        return json.dumps(value, sort_keys=True)
    return bool(value) if isinstance(value, bool) else value


def _continue_numbers(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's counters go on after the rows that were copied with their numbers."""
    if connection.dialect.name != "postgresql" or "id" not in table.columns:
        return
    sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, "id")))
    if sequence:
        last = connection.scalar(select(func.max(table.c.id)))
        connection.execute(select(func.setval(sequence, last or 1, last is not None)))


def describe(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)
