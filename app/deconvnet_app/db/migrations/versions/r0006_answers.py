"""The first answer to each key, given again also when its job is gone."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("answer", sa.JSON, nullable=True))
    op.create_index("keys_by_age", "idempotency_keys", ["created_at"])
    keys = sa.table("idempotency_keys", sa.column("job"), sa.column("answer", sa.JSON))
    names = ("id", "total", "created_at")
    kept = (sa.column("request", sa.JSON), sa.column("fingerprints", sa.JSON))
    jobs = sa.table("jobs", *map(sa.column, names), *kept)
    found = sa.select(jobs).where(jobs.c.id.in_(sa.select(keys.c.job)))
    for job in op.get_bind().execute(found).all():
        op.execute(keys.update().where(keys.c.job == job.id).values(answer=_first(job)))


def _first(job: sa.Row[Any]) -> dict[str, object]:
    """A job as its submission was answered."""
    ended = {"succeeded": 0, "failed": 0, "skipped": 0}
    made = {"id": job.id, "state": "queued", "version": 1, "counts": {"total": job.total, **ended}}
    asked = {"request": job.request, "fingerprints": job.fingerprints}
    unknown = dict.fromkeys(("rate", "eta_s", "error", "started_at", "finished_at"))
    return {**made, **asked, **unknown, "created_at": job.created_at, "updated_at": job.created_at}


def downgrade() -> None:
    op.drop_index("keys_by_age", "idempotency_keys")
    op.drop_column("idempotency_keys", "answer")
