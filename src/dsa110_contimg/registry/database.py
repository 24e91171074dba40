"""Open the database: SQLite in write-ahead mode by default, PostgreSQL by URL.

Writers go one after the other: they take SQLite's write lock when they begin (`BEGIN IMMEDIATE`),
or a lock of ours on PostgreSQL, so that what a transaction reads holds until it writes. Readers see
a snapshot and block nobody.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock
from sqlalchemy import Compiled, Engine, Update, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.orm import Session as Session

from dsa110_contimg.errors import OutageError, PermanentError, RetryableError, UsageError
from dsa110_contimg.registry import migrations, rooted
from dsa110_contimg.registry.events import record_event

_BUSY_TIMEOUT_S = 30.0
_CACHE_KB = 256
_WRITERS = 110_110
"""Number of the lock that PostgreSQL's writers take."""
_FROZEN_S = 60.0
"""PostgreSQL ends a transaction that has said nothing for so long: its program is frozen."""
_LIVENESS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""A server whose machine is gone is known to be after a minute, not after two hours."""
_FRESH_S = 1.0
"""A connection that answered so lately is believed to be there."""
_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse.", "9p", "afs")
_LOCAL = ("fuse.bindfs", "fuse.encfs", "fuse.gocryptfs", "fuse.cryfs", "fuse.fuse-overlayfs")
"""Of the others of FUSE nobody knows whether they keep SQLite's locks (sshfs, s3fs, rclone ...)."""


class DatabaseSettings(Protocol):
    """What a registry needs of the settings."""

    @property
    def database(self) -> str:
        """URL of the database."""
        ...

    @property
    def root(self) -> Path:
        """Directory that holds everything."""
        ...


class Registry:
    """The database of one root.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    root : Path or None
        The directory that stored paths are relative to; None for uses that need no path.
    any_version : bool
        Open tables of another version too, to bring them up to date.
    create : bool
        Make the database if there is none.

    Raises
    ------
    PermanentError
        If the tables are of another version.
    UsageError
        If there is no database, and none is to be made.
    """

    def __init__(self, url: str, root: Path | None, any_version: bool = False, create: bool = True):
        self.url = url
        self.root = root
        if not create:
            _check_file(url)
        self.engine = make_engine(url)
        if root is not None:
            rooted.set_root(self.engine, root)
        self._writer = self.engine.execution_options(contimg_write=True)
        self._compiled: dict[Update, Compiled] = {}
        driver = self.engine.dialect.loaded_dbapi
        self._raw_errors = (driver.OperationalError, driver.InterfaceError, driver.InternalError)
        with ExitStack() as undo:
            undo.callback(self.close)
            with foreign_errors(), _alone(url):
                self._make_or_check(any_version, create)
            undo.pop_all()

    @classmethod
    def of(cls, settings: DatabaseSettings, create: bool = True) -> "Registry":
        """The database that settings name, for their root."""
        return cls(settings.database, settings.root, create=create)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; committed at the end, rolled back on an error."""
        with (
            foreign_errors(*self._raw_errors),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            # Sessions begin with their first statement; the lock is wanted now.
            connection = session.connection()
            if connection.dialect.name == "postgresql":
                driver: Any = connection.connection.driver_connection
                # With the BEGIN before it in one round trip.
                with driver.pipeline():
                    connection.execute(select(func.pg_advisory_xact_lock(_WRITERS)))
            yield session

    def change_one(self, statement: Update, values: Mapping[str, Any]) -> Sequence[Any] | None:
        """Change a row by one statement, a transaction of its own.

        On PostgreSQL it runs beside others of its kind, so it locks the rows that it reads, and
        takes one round trip.

        Parameters
        ----------
        statement : sqlalchemy.Update
        values : mapping of str
            Of its parameters.

        Returns
        -------
        sequence or None
            What it returns of the row, or None if there is no such row.
        """
        if self.engine.dialect.name != "postgresql":
            with self.write() as session:
                return session.connection().execute(statement, values).one_or_none()
        if statement not in self._compiled:
            self._compiled[statement] = statement.compile(dialect=self.engine.dialect)
        compiled = self._compiled[statement]
        with foreign_errors(*self._raw_errors), self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.pipeline():
                driver.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_WRITERS,))
                cursor = driver.execute(str(compiled), compiled.construct_params(dict(values)))
                driver.commit()
            row: Sequence[Any] | None = cursor.fetchone()
            return row

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with foreign_errors(), Session(self.engine, expire_on_commit=False) as session:
            with session.begin():
                yield session

    def record_event(self, subject: str, message: str, level: str = "info") -> None:
        """Note something for operators."""
        with self.write() as session:
            record_event(session, subject, message, level)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _make_or_check(self, any_version: bool, create: bool) -> None:
        with self.read() as session:
            found = migrations.revision(session.connection())
        if not found and not create:
            raise _no_database(self.url)
        if not found:
            with self.write() as session:
                if not migrations.revision(session.connection()):
                    migrations.upgrade(session.connection(), self.root)
            return
        if found != migrations.HEAD and not any_version:
            todo = (
                "run 'dsa110-contimg db upgrade', which makes a backup first"
                if found < migrations.HEAD
                else "it is newer than this program: install the release that made it"
            )
            raise PermanentError(
                f"{shown_url(self.url)}: the database has schema version {found}, this program "
                f"needs {migrations.HEAD}; {todo}"
            )


def _check_file(url: str) -> None:
    """Raise `UsageError` if an address names a file that is not there."""
    parsed = make_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    if is_file and not Path(str(parsed.database)).exists():
        raise _no_database(url)


def _no_database(url: str) -> UsageError:
    return UsageError(
        f"{shown_url(url)}: there is no database; nothing has been processed under this root yet, "
        "or it is another one (--root, CONTIMG_ROOT)"
    )


def shown_url(url: str) -> str:
    """An address without what is secret in it."""
    parsed = make_url(url)
    return parsed.difference_update_query(["password"]).render_as_string(hide_password=True)


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """One program at a time makes the schema: SQLite's switch to write-ahead does not wait."""
    database = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or not database:
        yield
        return
    lock = FileLock(f"{database}.lock", timeout=_BUSY_TIMEOUT_S)
    try:
        lock.acquire()
    except OSError as error:
        raise OutageError(f"{lock.lock_file}: cannot be locked ({error})") from error
    try:
        yield
    finally:
        lock.release()


def make_engine(url: str) -> Engine:
    """An engine with our rules for transactions; a read begins plainly, a write with its lock."""
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        limits = {"lock_timeout": _BUSY_TIMEOUT_S, "idle_in_transaction_session_timeout": _FROZEN_S}
        given = " ".join(f"-c {name}={1000 * seconds:.0f}" for name, seconds in limits.items())
        engine = create_engine(parsed, connect_args={"options": given, **_LIVENESS})
        _ask_idle_connections(engine)
        return engine
    if parsed.database:
        folder = Path(parsed.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermanentError(
                f"{folder}: cannot be made ({error.strerror}); choose another root with --root"
            ) from error
        kind = _file_system(folder)
        if kind.startswith(_NETWORK) and kind not in _LOCAL:
            raise PermanentError(
                f"{folder}: is on a file system ({kind}) where SQLite's locks may not hold; give a "
                "database_url of a PostgreSQL server, or of a file on a local disk"
            )
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: `_begin` says which kind.
        connection.isolation_level = None
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # Of pages that the system holds too; a daemon has several connections.
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KB}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        write = connection.get_execution_options().get("contimg_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _ask_idle_connections(engine: Engine) -> None:
    """Try a connection that was not used for a while; each time would cost a round trip."""

    @event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info["used_s"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: Any, _proxy: Any) -> None:
        now = time.monotonic()
        # A new one has just answered.
        if now - record.info.get("used_s", now) < _FRESH_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the connection was lost") from error


def _file_system(folder: Path) -> str:
    """Kind of the file system that a directory is on; empty where it cannot be found out."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    above = {str(path) for path in (folder.absolute(), *folder.absolute().parents)}
    # The last one mounted hides those before it.
    inside = [
        (len(point), number, kind)
        for number, (_, point, kind, *_) in enumerate(mounts)
        if point in above
    ]
    return max(inside)[2] if inside else ""


@contextmanager
def foreign_errors(*more: type[Exception]) -> Iterator[None]:
    """The driver's errors as ours; `more` are those that come from it as they are."""
    silent: tuple[type[Exception], ...] = (OperationalError, InterfaceError, InternalError, *more)
    try:
        yield
    except silent as error:
        raise OutageError(
            f"the database does not answer: {getattr(error, 'orig', error)}"
        ) from error
    except IntegrityError as error:
        raise RetryableError(f"the database refused a change: {error.orig}") from error
