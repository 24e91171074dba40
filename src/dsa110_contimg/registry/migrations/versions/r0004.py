"""Sources, the images they are measured on, and the measurements."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(32), nullable=False, unique=True),
        sa.Column("ra_deg", sa.Float(), nullable=False),
        sa.Column("dec_deg", sa.Float(), nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
        sa.Column("catalogue_jy", sa.Float(), nullable=True),
        sa.Column("first_detected", sa.Float(), nullable=True),
        sa.Column("behaviour", sa.String(16), nullable=False),
        sa.Column("n_epochs", sa.Integer(), nullable=False),
        sa.Column("mean_jy", sa.Float(), nullable=True),
        sa.Column("modulation", sa.Float(), nullable=True),
        sa.Column("eta", sa.Float(), nullable=True),
        sa.Column("max_snr", sa.Float(), nullable=True),
        sa.Column("dip", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_sources_dec_deg", "sources", ["dec_deg"])
    op.create_index("ix_sources_behaviour", "sources", ["behaviour"])
    op.create_table(
        "measured_images",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("observed", sa.Float(), nullable=False),
        sa.Column("frequency_hz", sa.Float(), nullable=False),
        sa.Column("scale", sa.Float(), nullable=False),
        sa.Column("scale_error", sa.Float(), nullable=False),
    )
    op.create_index("ix_measured_images_observed", "measured_images", ["observed"])
    op.create_table(
        "measurements",
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("sources.id"), primary_key=True),
        sa.Column("image_id", sa.Integer(), sa.ForeignKey("measured_images.id"), primary_key=True),
        sa.Column("flux_jy", sa.Float(), nullable=False),
        sa.Column("error_jy", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )
