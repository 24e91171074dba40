"""How the antennas of each tile compare with those of its reference tile."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Begin without history."""
    op.create_table(
        "tile_antennas",
        sa.Column("tile_id", sa.String(32), primary_key=True),
        sa.Column("start", sa.Float(), nullable=False, index=True),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("calibration_set_id", sa.String(160), nullable=False),
        sa.Column("antennas", sa.JSON(), nullable=False),
    )
