"""Paths below the root are stored relative to the root."""

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy import Connection, text

revision = "0010"
down_revision = "0009"

_MARK = "{root}"
_PATH_COLUMNS = (
    ("subband_files", "path"),
    ("tiles", "ms_path"),
    ("calibration_sets", "path"),
    ("products", "path"),
)
_JSON_COLUMNS = (
    ("tiles", ("id",), "converted"),
    ("calibration_sets", ("id",), "quality"),
    ("images", ("id",), "record"),
    ("mosaics", ("name",), "record"),
    ("plans", ("name",), "document"),
    ("jobs", ("id",), "params"),
    ("jobs", ("id",), "result"),
    ("steps", ("key", "group_id"), "result"),
)


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
    if len(names) > 1:
        # Duplicates are registered again where they still are some.
        connection.execute(text("DELETE FROM subband_files WHERE state = 'duplicate'"))
    # The longest name first: a root may lie below another one.
    for name in sorted(names, key=len, reverse=True):
        _make_relative(connection, name)


def _make_relative(connection: Connection, root: str) -> None:
    for table, column in _PATH_COLUMNS:
        # By length, not LIKE: names may hold its wildcards.
        inside = f"substr({column}, 1, :length + 1) = :root || '/'"
        relative = f":mark || substr({column}, :length + 1)"
        values = {"mark": _MARK, "root": root, "length": len(root)}
        if column == "path" and table in ("subband_files", "products"):
            # A file may be known by two names of the root; then one row is enough.
            connection.execute(
                text(
                    f"DELETE FROM {table} WHERE {inside} AND {relative} IN "
                    f"(SELECT other.path FROM {table} AS other)"
                ),
                values,
            )
        connection.execute(text(f"UPDATE {table} SET {column} = {relative} WHERE {inside}"), values)
    for name, key, column in _JSON_COLUMNS:
        rows = sa.table(name, *(sa.column(one) for one in key), sa.column(column, sa.JSON))
        keys = [rows.c[one] for one in key]
        for *found, value in connection.execute(sa.select(*keys, rows.c[column])).all():
            changed = _relative(value, root)
            if changed != value:
                here = sa.and_(*(one == this for one, this in zip(keys, found, strict=True)))
                connection.execute(sa.update(rows).where(here).values({column: changed}))


def _relative(value: Any, root: str) -> Any:
    """A JSON value whose strings that are paths below the root are relative."""
    if isinstance(value, str) and (value == root or value.startswith(f"{root}/")):
        return _MARK + value[len(root) :]
    if isinstance(value, dict):
        return {key: _relative(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_relative(item, root) for item in value]
    return value
