"""Each measurement has the time at which its source was observed, each scale its number."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_TIMES = ("observed", "first", "last")


def upgrade() -> None:
    """Give existing measurements the middle of their image."""
    for name in _TIMES:
        op.add_column(
            "measurements", sa.Column(name, sa.Float(), nullable=False, server_default="0")
        )
    op.add_column(
        "measured_images",
        sa.Column("n_compared", sa.Integer(), nullable=False, server_default="0"),
    )
    middle = "(SELECT observed FROM measured_images WHERE id = measurements.image_id)"
    op.execute("UPDATE measurements SET " + ", ".join(f"{name} = {middle}" for name in _TIMES))
