"""Large integers, longer set names, moments of completion, alerts, owed cross-matches, steps."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("subband_files") as table:
        table.alter_column("size", type_=sa.BigInteger(), existing_nullable=False)
        table.alter_column("mtime_ns", type_=sa.BigInteger(), existing_nullable=False)
    with op.batch_alter_table("products") as table:
        table.alter_column("size", type_=sa.BigInteger(), existing_nullable=False)
    with op.batch_alter_table("calibration_choices") as table:
        table.alter_column("bandpass_id", type_=sa.String(160), existing_nullable=False)
        table.alter_column("gains_id", type_=sa.String(160), existing_nullable=False)
    with op.batch_alter_table("tiles") as table:
        table.add_column(sa.Column("converted_at", sa.Float(), nullable=True))
    op.create_index("ix_tiles_converted_at", "tiles", ["converted_at"])
    with op.batch_alter_table("mosaic_groups") as table:
        table.add_column(sa.Column("finished_at", sa.Float(), nullable=True))
    op.create_index("ix_mosaic_groups_finished_at", "mosaic_groups", ["finished_at"])
    with op.batch_alter_table("mosaics") as table:
        table.add_column(
            sa.Column("crossmatch", sa.String(16), nullable=False, server_default="done")
        )
    op.create_index("ix_mosaics_crossmatch", "mosaics", ["crossmatch"])
    op.create_table(
        "alerts",
        sa.Column("rule", sa.String(128), primary_key=True),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("told", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
    )
    op.create_table(
        "steps",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("group_id", sa.String(32), primary_key=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
    )
    if sa.inspect(op.get_bind()).has_table("schema_version"):
        op.drop_table("schema_version")
