"""Work is claimed in order of its start within a state."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Let one index serve both."""
    for table in ("tiles", "mosaic_groups"):
        op.drop_index(f"ix_{table}_state", table)
        op.create_index(f"ix_{table}_state_start", table, ["state", "start"])
