"""What happened to each job, in order; jobs that are deleted, and jobs that are tried again."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

COUNTS = ("total", "succeeded", "failed", "skipped")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("done_before", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("deleted_at", sa.Double))
    events = op.create_table(
        "events",
        sa.Column(
            "job", sa.Integer, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    # The story of the jobs that are there begins with how they stand now.
    names = ("seq", "version", "state", "updated_at", *COUNTS)
    jobs = sa.table("jobs", *map(sa.column, names), sa.column("error", sa.JSON))
    op.bulk_insert(events, [_first(job) for job in op.get_bind().execute(sa.select(jobs))])


def _first(job: sa.Row[Any]) -> dict[str, object]:
    counts = {name: getattr(job, name) for name in COUNTS}
    data = {"state": job.state, "error": job.error, "at": job.updated_at, "counts": counts}
    return {"job": job.seq, "version": job.version, "kind": "state", "data": data}


def downgrade() -> None:
    op.drop_table("events")
    op.drop_column("jobs", "deleted_at")
    op.drop_column("jobs", "done_before")
