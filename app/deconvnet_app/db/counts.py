"""How much there is of everything, for the metrics."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deconvnet_app.db.models import Job


def jobs_by_state(session: Session) -> dict[str, float]:
    """State → number of jobs."""
    there = select(Job.state, func.count()).where(Job.deleted_at.is_(None))
    rows = session.execute(there.group_by(Job.state))
    return {state: float(count) for state, count in rows}


def items_by_state(session: Session) -> dict[str, float]:
    """State → number of items; from the jobs' own counts, so that no item is visited."""
    states = ("total", "succeeded", "failed", "skipped")
    sums = [func.coalesce(func.sum(getattr(Job, state)), 0) for state in states]
    total, *ended = session.execute(select(*sums).where(Job.deleted_at.is_(None))).one()
    known = dict(zip(states[1:], map(float, ended), strict=True))
    return {"unfinished": float(total - sum(ended)), **known}
