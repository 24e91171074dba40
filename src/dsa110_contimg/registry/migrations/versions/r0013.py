"""Columns for what is asked of mosaics and tile images, which was in their records only."""

import math

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Fill them from the records; paths keep the mark of the root."""
    connection = op.get_bind()
    op.execute("ALTER TABLE alerts RENAME COLUMN told TO notified")
    op.add_column("mosaics", sa.Column("path", sa.String(1024), nullable=False, server_default=""))
    op.add_column("mosaics", sa.Column("n_tiles", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("mosaics", sa.Column("median_rms_jy", sa.Float()))
    op.add_column("images", sa.Column("folder", sa.String(1024), nullable=False, server_default=""))
    mosaics = sa.table("mosaics", sa.column("name"), sa.column("record", sa.JSON))
    values = [
        {
            "name": name,
            "path": record["mosaic"]["path"],
            "n_tiles": len(record["mosaic"]["tile_ids"]),
            "median_rms_jy": _finite(record["mosaic"]["median_rms_jy"]),
        }
        for name, record in connection.execute(sa.select(mosaics.c.name, mosaics.c.record)).all()
    ]
    if values:
        connection.execute(
            sa.text(
                "UPDATE mosaics SET path = :path, n_tiles = :n_tiles, "
                "median_rms_jy = :median_rms_jy WHERE name = :name"
            ),
            values,
        )
    images = sa.table("images", sa.column("id"), sa.column("record", sa.JSON))
    folders = [
        {"id": number, "folder": record["prefix"].rpartition("/")[0]}
        for number, record in connection.execute(sa.select(images.c.id, images.c.record)).all()
    ]
    if folders:
        connection.execute(sa.text("UPDATE images SET folder = :folder WHERE id = :id"), folders)


def _finite(value: float | str) -> float | None:
    """A number; None for one that is stored as the text "nan"."""
    number = float(value)
    return number if math.isfinite(number) else None
