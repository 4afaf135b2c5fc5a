"""When an annotation last changed, apart from when it was last touched."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("submission", sa.Column("changed_at", sa.String, nullable=False, server_default=""))
    op.execute("UPDATE submission SET changed_at = updated_at")
