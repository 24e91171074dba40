"""Every table as of schema version 2, the last that was numbered by hand.

Sizes and moments are large integers: SQLite's were, and PostgreSQL refused its first file then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "calibration_choices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("bandpass_id", sa.String(length=64), nullable=False),
        sa.Column("gains_id", sa.String(length=64), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_calibration_choices_subject"), "calibration_choices", ["subject"], unique=False
    )
    op.create_table(
        "calibration_sets",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("tile_id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("observed", sa.Float(), nullable=False),
        sa.Column("apparent_dec_deg", sa.Float(), nullable=False),
        sa.Column("bandpass_valid_s", sa.Float(), nullable=False),
        sa.Column("gains_valid_s", sa.Float(), nullable=False),
        sa.Column("quality", sa.JSON(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_calibration_sets_observed"), "calibration_sets", ["observed"], unique=False
    )
    op.create_index(
        op.f("ix_calibration_sets_tile_id"), "calibration_sets", ["tile_id"], unique=False
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(op.f("ix_events_subject"), "events", ["subject"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tile_id", sa.String(length=32), nullable=False),
        sa.Column("calibration_set_id", sa.String(length=160), nullable=False),
        sa.Column("options_key", sa.String(length=64), nullable=False),
        sa.Column("start", sa.Float(), nullable=False),
        sa.Column("beam_corrected", sa.Boolean(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_images_calibration_set_id"), "images", ["calibration_set_id"], unique=False
    )
    op.create_index(op.f("ix_images_start"), "images", ["start"], unique=False)
    op.create_index(op.f("ix_images_tile_id"), "images", ["tile_id"], unique=False)
    op.create_index(
        "one_image_per_key", "images", ["tile_id", "calibration_set_id", "options_key"], unique=True
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=64), nullable=False),
        sa.Column("fraction", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("started", sa.Float(), nullable=True),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key"),
    )
    op.create_index(op.f("ix_jobs_state"), "jobs", ["state"], unique=False)
    op.create_index(op.f("ix_jobs_type"), "jobs", ["type"], unique=False)
    op.create_table(
        "manual_flags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("flag", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "mosaic_groups",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("start", sa.Float(), nullable=False),
        sa.Column("tile_ids", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_mosaic_groups_start"), "mosaic_groups", ["start"], unique=False)
    op.create_index(op.f("ix_mosaic_groups_state"), "mosaic_groups", ["state"], unique=False)
    op.create_table(
        "mosaics",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("group_id", sa.String(length=32), nullable=False),
        sa.Column("start", sa.Float(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(op.f("ix_mosaics_group_id"), "mosaics", ["group_id"], unique=False)
    op.create_index(op.f("ix_mosaics_start"), "mosaics", ["start"], unique=False)
    op.create_index(op.f("ix_mosaics_state"), "mosaics", ["state"], unique=False)
    op.create_table(
        "plans",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "products",
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index(op.f("ix_products_kind"), "products", ["kind"], unique=False)
    op.create_index(op.f("ix_products_name"), "products", ["name"], unique=False)
    op.create_table(
        "schema_version",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "tiles",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("time_key", sa.Float(), nullable=False),
        sa.Column("start", sa.Float(), nullable=False),
        sa.Column("apparent_dec_deg", sa.Float(), nullable=False),
        sa.Column("last_arrival", sa.Float(), nullable=False),
        sa.Column("n_subbands", sa.Integer(), nullable=False),
        sa.Column("ms_path", sa.String(length=1024), nullable=False),
        sa.Column("converted", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("time_key"),
    )
    op.create_index(op.f("ix_tiles_start"), "tiles", ["start"], unique=False)
    op.create_index(op.f("ix_tiles_state"), "tiles", ["state"], unique=False)
    op.create_table(
        "subband_files",
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("look_again", sa.Float(), nullable=True),
        sa.Column("subband", sa.Integer(), nullable=True),
        sa.Column("tile_id", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["tile_id"], ["tiles.id"]),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index(op.f("ix_subband_files_state"), "subband_files", ["state"], unique=False)
    op.create_index(op.f("ix_subband_files_tile_id"), "subband_files", ["tile_id"], unique=False)
