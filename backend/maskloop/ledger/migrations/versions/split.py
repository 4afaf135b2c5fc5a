"""The part of the data an image belongs to, fixed for good."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "split",
        sa.Column("project", sa.Integer, primary_key=True),
        sa.Column("content", sa.String, primary_key=True),
        sa.Column("part", sa.String, nullable=False),
    )
