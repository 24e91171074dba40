"""Tiles tell on which machine's own disk their Measurement Set lies."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Those that are there lie where all see them."""
    op.add_column("tiles", sa.Column("ms_host", sa.String(255), nullable=False, server_default=""))
