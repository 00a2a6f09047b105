"""What happened to each job, in order; jobs that are deleted, and jobs that are tried again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("done_before", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("deleted_at", sa.Double))
    op.create_table(
        "events",
        sa.Column(
            "job", sa.Integer, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    # The story of the jobs that are there begins with how they stand now.
    op.execute(
        "INSERT INTO events (job, version, kind, data) SELECT seq, version, 'state', "
        "json_object('state', state, 'at', updated_at, 'counts', json_object('total', total, "
        "'succeeded', succeeded, 'failed', failed, 'skipped', skipped)) FROM jobs"
    )


def downgrade() -> None:
    op.drop_table("events")
    op.drop_column("jobs", "deleted_at")
    op.drop_column("jobs", "done_before")
