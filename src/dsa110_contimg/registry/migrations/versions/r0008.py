"""The steps of a group that is worked on tell their stage."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Steps that are there keep an empty name."""
    op.add_column("steps", sa.Column("stage", sa.String(32), nullable=False, server_default=""))
