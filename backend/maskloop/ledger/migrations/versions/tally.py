"""How the tasks of forgotten batches ended; and ids as large as Label Studio's may be."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

IDS = {
    "prediction": ("project", "task"),
    "submission": ("project", "annotation", "task", "completed_by"),
    "deleted_task": ("project", "task"),
    "project": ("id",),
    "split": ("project",),
    "training": ("project",),
    "promotion": ("project",),
    "batch": ("project",),
    "batch_item": ("project", "task"),
}


def upgrade() -> None:
    op.create_table(
        "tally",
        sa.Column("state", sa.String, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    # An INTEGER of SQLite holds 64 bits as it is.
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in IDS.items():
            for column in columns:
                op.alter_column(table, column, type_=sa.BigInteger)
