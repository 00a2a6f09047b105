"""The store of jobs: every change of a job's or an item's state is here.

An item: pending → running → succeeded | failed | skipped, and back to pending when its worker or
server died. A job: queued → running → succeeded | failed, or → cancelling → cancelled | expired.
Counts change in the transaction that changes the item, so they always agree.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from app.db.models import IdempotencyKey, Item, Job, JsonObject

ACTIVE = ("queued", "running", "cancelling")
TERMINAL = ("succeeded", "failed", "cancelled", "expired")
JOB_STATES = (*ACTIVE, *TERMINAL)
ITEM_STATES = ("pending", "running", "succeeded", "failed", "skipped")


@dataclass(frozen=True)
class Input:
    """What an item computes on: an uploaded image, or a file of a dataset."""

    custom_id: str | None = None
    image: str | None = None
    sha256: str | None = None
    dataset: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right to compute one item once; void as soon as the item is claimed anew."""

    job: int
    n: int
    owner: str
    attempt: int
    input: Input
    request: JsonObject


def create(session: Session, job: Job, inputs: Iterable[Input]) -> None:
    """Keep a new job and its items, in the order of their inputs."""
    session.add(job)
    session.flush()
    rows = [
        {"job": job.seq, "n": n, "state": "pending", "attempt": 0, "deaths": 0, **vars(one)}
        for n, one in enumerate(inputs)
    ]
    session.execute(insert(Item), rows)


def get(session: Session, job_id: str) -> Job | None:
    """The job of that id."""
    return session.scalar(select(Job).where(Job.id == job_id))


def unfinished(session: Session) -> int:
    """How many jobs are not at their end."""
    return len(session.scalars(select(Job.seq).where(Job.state.in_(ACTIVE))).all())


def page(session: Session, state: str | None, before: int | None, limit: int) -> Sequence[Job]:
    """Jobs, newest first, with a number below `before`."""
    query = select(Job).order_by(Job.seq.desc()).limit(limit)
    if state is not None:
        query = query.where(Job.state == state)
    if before is not None:
        query = query.where(Job.seq < before)
    return session.scalars(query).all()


def items(session: Session, job: int, state: str | None, after: int, limit: int) -> Sequence[Item]:
    """A job's items in order, with a number above `after`."""
    query = select(Item).where(Item.job == job, Item.n > after).order_by(Item.n).limit(limit)
    if state is not None:
        query = query.where(Item.state == state)
    return session.scalars(query).all()


def item(session: Session, job: int, n: int) -> Item | None:
    """One item."""
    return session.get(Item, (job, n))


def has_pending(session: Session) -> bool:
    """Whether `claim` would find something."""
    waiting = exists().where(Item.job == Job.seq, Item.state == "pending")
    query = select(Job.seq).where(Job.state.in_(("queued", "running")), waiting).limit(1)
    return session.scalar(query) is not None


def claim(session: Session, owner: str, limit: int, now: float) -> list[Claim]:
    """Take up to `limit` pending items, oldest job first."""
    claims: list[Claim] = []
    jobs = session.scalars(
        select(Job).where(Job.state.in_(("queued", "running"))).order_by(Job.seq)
    )
    for job in jobs:
        if len(claims) >= limit:
            break
        for one in items(session, job.seq, "pending", -1, limit - len(claims)):
            one.state, one.owner, one.attempt = "running", owner, one.attempt + 1
            given = Input(one.custom_id, one.image, one.sha256, one.dataset, one.path)
            claims.append(Claim(job.seq, one.n, owner, one.attempt, given, job.request))
            if job.state == "queued":
                job.state, job.started_at = "running", now
                _touch(job, now)
    return claims


def _fenced(session: Session, claim: Claim, values: Mapping[str, Any]) -> bool:
    """Change the claimed item, unless the claim is void."""
    result = session.execute(
        update(Item)
        .where(
            Item.job == claim.job,
            Item.n == claim.n,
            Item.state == "running",
            Item.owner == claim.owner,
            Item.attempt == claim.attempt,
        )
        .values(**values, owner=None)
    )
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def succeed(session: Session, claim: Claim, result: JsonObject, now: float) -> bool:
    """Commit an item's result; False if the claim is void: somebody else's result counts."""
    values = {"state": "succeeded", "result": result, "finished_at": now, "error": None}
    if not _fenced(session, claim, values):
        return False
    job = session.get_one(Job, claim.job)
    job.succeeded += 1
    _settle(job, now)
    return True


def fail(session: Session, claim: Claim, error: JsonObject, now: float) -> bool:
    """Commit an item's error; False if the claim is void."""
    if not _fenced(session, claim, {"state": "failed", "error": error, "finished_at": now}):
        return False
    job = session.get_one(Job, claim.job)
    job.failed += 1
    _settle(job, now)
    return True


def release(session: Session, claim: Claim, now: float, *, died: bool, most_deaths: int) -> bool:
    """Give a claimed item back.

    Args:
        died: its worker died of it; after `most_deaths` of those the item is quarantined.
    """
    one = item(session, claim.job, claim.n)
    job = session.get_one(Job, claim.job)
    deaths = (one.deaths if one else 0) + died
    if deaths >= most_deaths:
        error = {
            "code": "quarantined",
            "detail": f"The worker process died {deaths} times on this input; it is set aside.",
        }
        values = {"state": "failed", "error": error, "deaths": deaths, "finished_at": now}
        if not _fenced(session, claim, values):
            return False
        job.failed += 1
    elif job.state == "cancelling":
        if not _fenced(session, claim, {"state": "skipped", "deaths": deaths}):
            return False
        job.skipped += 1
    else:
        return _fenced(session, claim, {"state": "pending", "deaths": deaths})
    _settle(job, now)
    return True


def adopt(session: Session, owner: str, now: float) -> int:
    """Give back every item that a server which is gone had claimed; how many there were."""
    left = session.scalars(select(Item).where(Item.state == "running", Item.owner != owner)).all()
    for one in left:
        job = session.get_one(Job, one.job)
        one.owner = None
        one.state = "pending" if job.state == "running" else "skipped"
        job.skipped += one.state == "skipped"
        _settle(job, now)
    return len(left)


def stop(session: Session, job: Job, now: float, error: JsonObject | None, state: str) -> None:
    """Start no further item of a job: the pending ones are skipped.

    Args:
        error: why, unless somebody asked for it.
        state: "cancelling", or "running" for a job that has failed as a whole.
    """
    result = session.execute(
        update(Item).where(Item.job == job.seq, Item.state == "pending").values(state="skipped")
    )
    assert isinstance(result, CursorResult)
    job.skipped += result.rowcount
    job.state = state
    job.error = job.error or error
    _settle(job, now)


def _touch(job: Job, now: float) -> None:
    job.version += 1
    job.updated_at = now


def _settle(job: Job, now: float) -> None:
    """End the job if nothing of it is left to do."""
    _touch(job, now)
    if job.succeeded + job.failed + job.skipped < job.total:
        return
    if job.state == "cancelling":
        job.state = "expired" if (job.error or {}).get("code") == "expired" else "cancelled"
    else:
        job.state = "failed" if job.error or job.failed == job.total else "succeeded"
    job.finished_at = now


def remember(session: Session, key: str, body_sha256: str, job_id: str, now: float) -> None:
    """Keep a client's key together with the job it made."""
    session.add(IdempotencyKey(key=key, body_sha256=body_sha256, job=job_id, created_at=now))


def recall(session: Session, key: str) -> tuple[str, str] | None:
    """The body's hash and the job's id that a key was used for."""
    found = session.get(IdempotencyKey, key)
    return (found.body_sha256, found.job) if found else None
