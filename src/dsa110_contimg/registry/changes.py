"""Has anybody written to the database? Asked often, for pages that show its state live."""

from sqlalchemy import Connection

from dsa110_contimg.errors import OutageError
from dsa110_contimg.registry.database import Registry, foreign_errors

_QUESTION = {
    # Of this connection's view: moves when another one commits.
    "sqlite": "PRAGMA data_version",
    "postgresql": "SELECT pg_current_wal_insert_lsn()",
}


class Changes:
    """Watches a database through a connection of its own; for one thread.

    Parameters
    ----------
    registry : Registry
    """

    def __init__(self, registry: Registry):
        self._registry = registry
        self._connection: Connection | None = None

    def mark(self) -> str:
        """A text that differs after every change, and may differ without one.

        Raises
        ------
        OutageError
            If the database does not answer; the next call tries again.
        """
        try:
            with foreign_errors():
                if self._connection is None:
                    self._connection = self._registry.engine.connect()
                question = _QUESTION[self._connection.dialect.name]
                found = self._connection.exec_driver_sql(question).scalar()
                # A transaction that stays open keeps looking at what was there when it began.
                self._connection.rollback()
        except OutageError:
            self.close()
            raise
        return str(found)

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
