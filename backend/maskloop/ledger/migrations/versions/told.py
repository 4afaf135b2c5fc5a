"""Whether Label Studio knows of a promotion."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("promotion", sa.Column("told", sa.Boolean, nullable=False, server_default=sa.true()))
