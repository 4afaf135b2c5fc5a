"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "prediction",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("project", sa.Integer, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("region", sa.String, nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("clicks", sa.Integer, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("label", sa.String),
        sa.Column("rle", sa.LargeBinary),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("prediction_region", "prediction", ["project", "task", "region"])
    op.create_index("ix_prediction_at", "prediction", ["at"])
    op.create_table(
        "submission",
        sa.Column("project", sa.Integer, primary_key=True),
        sa.Column("annotation", sa.Integer, primary_key=True),
        sa.Column("task", sa.Integer),
        sa.Column("updated_at", sa.String, nullable=False),
        sa.Column("image", sa.Text, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("ground_truth", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("completed_by", sa.Integer),
        sa.Column("regions", sa.LargeBinary, nullable=False),
        sa.Column("training", sa.Integer),
        sa.Column("recorded_at", sa.Float, nullable=False),
    )
    op.create_index("submission_task", "submission", ["project", "task"])
    op.create_table(
        "deleted_task",
        sa.Column("project", sa.Integer, primary_key=True),
        sa.Column("task", sa.Integer, primary_key=True),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("label_config", sa.Text, nullable=False),
        sa.Column("polled_until", sa.String, nullable=False),
        sa.Column("polled_at", sa.Float, nullable=False),
    )
    op.create_table(
        "training",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("project", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("trigger", sa.String, nullable=False),
        sa.Column("requested_at", sa.Float, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        sa.Column("heartbeat", sa.Float),
        sa.Column("owner", sa.String),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("version", sa.String),
        sa.Column("cancel", sa.Boolean, nullable=False),
    )
    for state in ("waiting", "running"):
        only = sa.text(f"state = '{state}'")
        op.create_index(
            f"training_one_{state}", "training", ["project"], unique=True, sqlite_where=only, postgresql_where=only
        )
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("project", sa.Integer, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("previous", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("ix_promotion_project", "promotion", ["project"])
    op.create_table(
        "batch",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.Integer, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "batch_item",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("batch", sa.String, nullable=False),
        sa.Column("project", sa.Integer, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("lease_until", sa.Float),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("ix_batch_item_batch", "batch_item", ["batch"])
    op.create_index("batch_item_once", "batch_item", ["project", "task", "version", "prompt"], unique=True)
    op.create_index("batch_item_open", "batch_item", ["state", "id"])
