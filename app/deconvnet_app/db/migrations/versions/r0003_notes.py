"""What the conversion of an uploaded image left out or ignored."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("images", sa.Column("notes", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("images", "notes")
