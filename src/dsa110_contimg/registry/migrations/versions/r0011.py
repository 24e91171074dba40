"""Each measurement has the time at which its source was observed, each scale its number."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_TIMES = ("observed", "first", "last")


_TILE_S = 309.24


def upgrade() -> None:
    """Give existing measurements the time of their image."""
    connection = op.get_bind()
    op.add_column(
        "measured_images", sa.Column("n_compared", sa.Integer(), nullable=False, server_default="0")
    )
    op.execute("UPDATE measured_images SET n_compared = 1 WHERE scale <> 1 OR scale_error > 0")
    for name in _TIMES:
        op.add_column(
            "measurements", sa.Column(name, sa.Float(), nullable=False, server_default="0")
        )
    middle = "(SELECT observed FROM measured_images WHERE id = measurements.image_id)"
    op.execute(
        f"UPDATE measurements SET observed = {middle}, first = {middle} - {_TILE_S / 2}, "
        f"last = {middle} + {_TILE_S / 2}"
    )
    mosaics = sa.table("mosaics", sa.column("name"), sa.column("record", sa.JSON))
    spans = [
        {"name": name, "first": record["mosaic"]["start"], "last": record["mosaic"]["end"]}
        for name, record in connection.execute(sa.select(mosaics.c.name, mosaics.c.record)).all()
    ]
    if spans:
        connection.execute(
            sa.text(
                "UPDATE measurements SET first = :first, last = :last "
                "WHERE image_id = (SELECT id FROM measured_images WHERE name = :name)"
            ),
            spans,
        )
