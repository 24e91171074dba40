"""Open the database: SQLite in write-ahead mode by default, PostgreSQL by URL.

Writers take SQLite's write lock when they begin (`BEGIN IMMEDIATE`), so a transaction never
fails half way for want of it; readers see a snapshot and block nobody.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from dsa110_contimg.errors import PermanentError, RetryableError
from dsa110_contimg.registry.models import SCHEMA_VERSION, Base, Event, SchemaVersion

_BUSY_TIMEOUT_S = 30.0


class Registry:
    """The database of one root.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    """

    def __init__(self, url: str):
        self.url = url
        self._engine = _engine(url)
        self._writer = self._engine.execution_options(contimg_write=True)
        with _foreign_errors(), _alone(url):
            Base.metadata.create_all(self._engine)
            self._check_version()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; committed at the end, rolled back on an error."""
        with _foreign_errors(), Session(self._writer, expire_on_commit=False) as session:
            with session.begin():
                # Sessions begin with their first statement; the lock is wanted now.
                session.connection()
                yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with _foreign_errors(), Session(self._engine, expire_on_commit=False) as session:
            with session.begin():
                yield session

    def record_event(self, subject: str, message: str, level: str = "info") -> None:
        """Note something for operators."""
        with self.write() as session:
            session.add(Event(at=time.time(), level=level, subject=subject, message=message))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _check_version(self) -> None:
        with self.write() as session:
            found = session.scalars(select(SchemaVersion.version)).one_or_none()
            if found is None:
                session.add(SchemaVersion(version=SCHEMA_VERSION))
            elif found != SCHEMA_VERSION:
                raise PermanentError(
                    f"{self.url}: the database has schema version {found}, this program needs "
                    f"{SCHEMA_VERSION}; use the matching release, or another root"
                )


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """One program at a time makes the schema: SQLite's switch to write-ahead does not wait."""
    database = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or not database:
        yield
        return
    with FileLock(f"{database}.lock", timeout=_BUSY_TIMEOUT_S):
        yield


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        folder = Path(parsed.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermanentError(
                f"{folder}: cannot be made ({error.strerror}); choose another root with --root"
            ) from error
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: `_begin` says which kind.
        connection.isolation_level = None
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        write = connection.get_execution_options().get("contimg_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextmanager
def _foreign_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise RetryableError(f"the database does not answer: {error.orig}") from error
    except IntegrityError as error:
        raise RetryableError(f"the database refused a change: {error.orig}") from error
