"""How many attempts each item has spent; `attempt` rises with claims that a drain ends, too."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("items", sa.Column("spent", sa.Integer, nullable=False, server_default="0"))
    items = sa.table("items", *map(sa.column, ("state", "deaths", "spent")))
    # One that was set aside ended with its last death: there is no error beside its deaths.
    ended = sa.or_(
        items.c.state == "succeeded", sa.and_(items.c.state == "failed", items.c.deaths < 3)
    )
    op.execute(items.update().values(spent=items.c.deaths + sa.case((ended, 1), else_=0)))


def downgrade() -> None:
    op.drop_column("items", "spent")
