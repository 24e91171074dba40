"""Steps from one version of the tables to the next (Alembic)."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0013"
"""The version that this program needs."""


def revision(connection: Connection) -> str:
    """Version of a database's tables; empty if it has none."""
    names = inspect(connection).get_table_names()
    if "alembic_version" in names:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
    if "schema_version" in names:
        number = connection.execute(text("SELECT version FROM schema_version")).scalar()
        return f"{int(number or 0):04d}"
    return ""


def upgrade(connection: Connection, root: Path | None = None, to: str = HEAD) -> None:
    """Bring the tables to a version within the connection's transaction.

    Parameters
    ----------
    connection : Connection
    root : Path, optional
        The directory that the rows belong to.
    to : str
        The version.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "dsa110_contimg.registry:migrations")
    config.attributes["connection"] = connection
    config.attributes["root"] = root
    if revision(connection) == "0002":
        # It was made before Alembic kept the book.
        command.stamp(config, "0002")
    command.upgrade(config, to)
