"""Numbers that are given once: SQLite gives that of the newest row again when the row is erased."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    jobs = sa.table("jobs", sa.column("seq"))
    last = op.get_bind().execute(sa.select(sa.func.max(jobs.c.seq))).scalar()
    op.bulk_insert(counters, [{"name": "jobs", "value": last or 0}])


def downgrade() -> None:
    op.drop_table("counters")
