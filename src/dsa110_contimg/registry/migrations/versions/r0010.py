"""Paths below the root are stored relative to the root."""

import json
import os
from pathlib import Path

from alembic import context, op
from sqlalchemy import Connection, text

revision = "0010"
down_revision = "0009"

_MARK = "{root}"
_PATH_COLUMNS = (
    ("subband_files", "path"), ("tiles", "ms_path"), ("calibration_sets", "path"),
    ("products", "path"),
)  # fmt: skip
_JSON_COLUMNS = (
    ("tiles", "converted"), ("calibration_sets", "quality"), ("images", "record"),
    ("mosaics", "record"), ("plans", "document"), ("jobs", "params"), ("jobs", "result"),
    ("steps", "result"),
)  # fmt: skip


def upgrade() -> None:
    """Make the paths of all rows relative, for every name that the root has had.

    Calibration tables and products have always been below the root, so their paths tell its
    names, also where it has been moved or copied since.
    """
    connection = op.get_bind()
    root: Path | None = context.config.attributes.get("root")
    names = {os.path.abspath(root)} if root is not None else set()
    for table, folder in (("calibration_sets", "/caltables/"), ("products", "/products/")):
        for (path,) in connection.execute(text(f"SELECT path FROM {table}")):
            before, found, _ = path.rpartition(folder)
            if found and before.startswith("/"):
                names.add(before)
    # The longest name first: a root may lie below another one.
    for name in sorted(names, key=len, reverse=True):
        _make_relative(connection, name)


def _make_relative(connection: Connection, root: str) -> None:
    for table, column in _PATH_COLUMNS:
        # By length, not LIKE: names may hold its wildcards.
        connection.execute(
            text(
                f"UPDATE {table} SET {column} = :mark || substr({column}, :length + 1) "
                f"WHERE substr({column}, 1, :length + 1) = :root || '/'"
            ),
            {"mark": _MARK, "root": root, "length": len(root)},
        )
    quoted = json.dumps(root)[:-1]
    kind = "json" if connection.dialect.name == "postgresql" else "text"
    for table, column in _JSON_COLUMNS:
        connection.execute(
            text(
                f"UPDATE {table} SET {column} = CAST(replace(replace(CAST({column} AS text), "
                f":inside, :mark_inside), :whole, :mark_whole) AS {kind}) "
                f"WHERE {column} IS NOT NULL"
            ),
            {"inside": f"{quoted}/", "mark_inside": f'"{_MARK}/',
             "whole": f'{quoted}"', "mark_whole": f'"{_MARK}"'},
        )  # fmt: skip
