"""The store of jobs: every change of a job's or an item's state is here.

An item: pending → running → succeeded | failed | skipped, and back to pending when its worker or
server died. A job: queued → running → succeeded | failed, or → cancelling → cancelled | expired,
and back to queued when what failed of it is tried again. Counts change in the transaction that
changes the item, so they always agree; so do the events, one for each version of a job.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from deconvnet_app.db.models import CHANGED, Counter, Event, IdempotencyKey, Item, Job, JsonObject

ACTIVE = ("queued", "running", "cancelling")
TERMINAL = ("succeeded", "failed", "cancelled", "expired")
JOB_STATES = (*ACTIVE, *TERMINAL)
ITEM_STATES = ("pending", "running", "succeeded", "failed", "skipped")


Place = tuple[int, int]  # an item: its job's `seq`, and its number


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
    """The right to compute one item once; void as soon as the item is claimed anew.

    `run` is when the job was started, last: one that is tried again has its whole time again.
    """

    job: int
    n: int
    owner: str
    attempt: int
    input: Input
    request: JsonObject
    run: float


def new(job_id: str, request: JsonObject, fingerprints: JsonObject, total: int, now: float) -> Job:
    """A queued job that is in no database yet."""
    return Job(
        id=job_id,
        state="queued",
        version=0,
        request=request,
        fingerprints=fingerprints,
        total=total,
        succeeded=0,
        failed=0,
        skipped=0,
        done_before=0,
        created_at=now,
        updated_at=now,
    )


def create(session: Session, job: Job, inputs: Iterable[Input]) -> None:
    """Keep a new job and its items, in the order of their inputs."""
    job.seq = _next_number(session)
    session.add(job)
    session.flush()
    blank = {"job": job.seq, "state": "pending", "attempt": 0, "deaths": 0, "spent": 0}
    rows = [{**blank, "n": n, **vars(one)} for n, one in enumerate(inputs)]
    session.execute(insert(Item), rows)
    _tell_state(session, job, job.created_at)


def _next_number(session: Session) -> int:
    """One more than was ever given, also where the count of those was lost."""
    counter = session.get(Counter, "jobs") or Counter(name="jobs", value=0)
    counter.value = max(counter.value, session.scalar(select(func.max(Job.seq))) or 0) + 1
    session.add(counter)
    return counter.value


def get(session: Session, job_id: str) -> Job | None:
    """The job of that id, unless it is deleted."""
    return session.scalar(select(Job).where(Job.id == job_id, Job.deleted_at.is_(None)))


def unfinished(session: Session) -> int:
    """How many jobs are not at their end."""
    query = select(func.count()).select_from(Job).where(Job.state.in_(ACTIVE))
    return session.scalar(query) or 0


def page(session: Session, state: str | None, before: int | None, limit: int) -> Sequence[Job]:
    """Jobs, newest first, with a number below `before`."""
    query = select(Job).where(Job.deleted_at.is_(None)).order_by(Job.seq.desc()).limit(limit)
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


def events(session: Session, job: int, after: int, limit: int) -> Sequence[Event]:
    """What happened to a job after its version `after`, in order."""
    query = select(Event).where(Event.job == job, Event.version > after)
    return session.scalars(query.order_by(Event.version).limit(limit)).all()


def has_pending(session: Session) -> bool:
    """Whether `claim` would find something."""
    waiting = exists().where(Item.job == Job.seq, Item.state == "pending")
    query = select(Job.seq).where(Job.state.in_(("queued", "running")), waiting).limit(1)
    return session.scalar(query) is not None


def next_pending(session: Session, aside: Collection[Place]) -> Place | None:
    """The item that `claim` would take first, but for those that are left aside."""
    query = (
        select(Item.job, Item.n)
        .join(Job, Item.job == Job.seq)
        .where(Job.state.in_(("queued", "running")), Item.state == "pending")
        .order_by(Item.job, Item.n)
        .limit(len(aside) + 1)
    )
    found = ((row.job, row.n) for row in session.execute(query))
    return next((place for place in found if place not in aside), None)


def claim(
    session: Session, owner: str, limit: int, now: float, aside: Collection[Place] = ()
) -> list[Claim]:
    """Take up to `limit` pending items, oldest job first, but for those that are left aside."""
    claims: list[Claim] = []
    jobs = session.scalars(
        select(Job).where(Job.state.in_(("queued", "running"))).order_by(Job.seq)
    )
    for job in jobs:
        if len(claims) >= limit:
            break
        waiting = items(session, job.seq, "pending", -1, limit - len(claims) + len(aside))
        free = [one for one in waiting if (one.job, one.n) not in aside]
        for one in free[: limit - len(claims)]:
            claims.append(_take(session, job, one, owner, now))
    return claims


def claim_one(session: Session, owner: str, place: Place, now: float) -> Claim:
    """Take this item, which is pending."""
    one = session.get_one(Item, place)
    return _take(session, session.get_one(Job, one.job), one, owner, now)


def _take(session: Session, job: Job, one: Item, owner: str, now: float) -> Claim:
    if job.state == "queued":
        job.state, job.started_at = "running", now
        _tell_state(session, job, now)
    one.state, one.owner, one.attempt = "running", owner, one.attempt + 1
    given = Input(one.custom_id, one.image, one.sha256, one.dataset, one.path)
    return Claim(job.seq, one.n, owner, one.attempt, given, job.request, job.started_at or now)


def _fenced(session: Session, claim: Claim, values: Mapping[str, Any], *, spent: bool) -> bool:
    """Change the claimed item, unless the claim is void.

    Args:
        spent: an attempt ended with it.
    """
    result = session.execute(
        update(Item)
        .where(
            Item.job == claim.job,
            Item.n == claim.n,
            Item.state == "running",
            Item.owner == claim.owner,
            Item.attempt == claim.attempt,
        )
        .values(**values, owner=None, spent=Item.spent + int(spent))
    )
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def succeed(session: Session, claim: Claim, result: JsonObject, now: float) -> bool:
    """Commit an item's result; False if the claim is void: somebody else's result counts."""
    values = {"state": "succeeded", "result": result, "finished_at": now, "error": None}
    if not _fenced(session, claim, values, spent=True):
        return False
    job = session.get_one(Job, claim.job)
    job.succeeded += 1
    _tell_item(session, job, now, claim.n, "succeeded")
    _settle(session, job, now)
    return True


def fail(session: Session, claim: Claim, error: JsonObject, now: float, *, deaths: int = 0) -> bool:
    """Commit an item's error; False if the claim is void.

    Args:
        deaths: how many workers died of the item.
    """
    values = {"state": "failed", "error": error, "deaths": deaths, "finished_at": now}
    if not _fenced(session, claim, values, spent=True):
        return False
    job = session.get_one(Job, claim.job)
    job.failed += 1
    _tell_item(session, job, now, claim.n, "failed", error)
    _settle(session, job, now)
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
        return fail(session, claim, error, now, deaths=deaths)
    state = "skipped" if job.state == "cancelling" else "pending"
    if not _fenced(session, claim, {"state": state, "deaths": deaths}, spent=died):
        return False
    job.skipped += state == "skipped"
    _tell_item(session, job, now, claim.n, state)
    _settle(session, job, now)
    return True


def active(session: Session) -> Sequence[int]:
    """The numbers of the jobs that are not at their end."""
    return session.scalars(select(Job.seq).where(Job.state.in_(ACTIVE))).all()


def adopt(
    session: Session, held: Collection[tuple[int, int, int]], now: float, only: int | None = None
) -> int:
    """Give back every item that is claimed and that nobody computes; how many there were.

    Args:
        held: the claims that stand: job, number and attempt.
        only: of this job; None: of all.
    """
    active = select(Job.seq).where(Job.state.in_(ACTIVE))
    if only is not None:
        active = active.where(Job.seq == only)
    running = select(Item).where(Item.job.in_(active), Item.state == "running")
    left = [one for one in session.scalars(running) if (one.job, one.n, one.attempt) not in held]
    for one in left:
        job = session.get_one(Job, one.job)
        one.owner = None
        one.state = "pending" if job.state == "running" else "skipped"
        job.skipped += one.state == "skipped"
        _tell_item(session, job, now, one.n, one.state)
        _settle(session, job, now)
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
    _tell_state(session, job, now)
    _settle(session, job, now)


def retry(session: Session, job: Job, now: float) -> bool:
    """Queue a job's failed items again; False if there are none.

    Of a job that failed as a whole or expired, the items that it skipped for that are taken too.
    """
    states = ("failed", "skipped") if job.error else ("failed",)
    result = session.execute(
        update(Item)
        .where(Item.job == job.seq, Item.state.in_(states))
        .values(state="pending", deaths=0, error=None, finished_at=None)
    )
    assert isinstance(result, CursorResult)
    if not result.rowcount:
        return False
    job.failed = 0
    job.skipped = 0 if job.error else job.skipped
    job.done_before = job.succeeded
    job.state, job.error, job.started_at, job.finished_at = "queued", None, None, None
    _tell_state(session, job, now)
    return True


def remove(session: Session, job: Job, now: float) -> None:
    """Take a job away from everyone; `retention` sees to what it leaves."""
    job.deleted_at = now
    _note(session, job)


def _tell_state(session: Session, job: Job, now: float) -> None:
    _tell(session, job, now, "state", {"state": job.state, "error": job.error})


def _tell_item(
    session: Session, job: Job, now: float, n: int, state: str, error: JsonObject | None = None
) -> None:
    _tell(session, job, now, "item", {"n": n, "state": state, "error": error})


def _tell(session: Session, job: Job, now: float, kind: str, data: JsonObject) -> None:
    """Give the job its next version, and that version its event."""
    job.version += 1
    job.updated_at = now
    counts = {name: getattr(job, name) for name in ("total", "succeeded", "failed", "skipped")}
    told = {**data, "at": now, "counts": counts}
    session.add(Event(job=job.seq, version=job.version, kind=kind, data=told))
    _note(session, job)


def _note(session: Session, job: Job) -> None:
    """Have the database tell, once this is committed, that the job has changed."""
    session.info.setdefault(CHANGED, set()).add(job.id)


def _settle(session: Session, job: Job, now: float) -> None:
    """End the job if nothing of it is left to do."""
    if job.succeeded + job.failed + job.skipped < job.total:
        return
    if job.state == "cancelling":
        job.state = "expired" if (job.error or {}).get("code") == "expired" else "cancelled"
    else:
        job.state = "failed" if job.error or job.failed == job.total else "succeeded"
    job.finished_at = now
    _tell_state(session, job, now)


def remember(session: Session, key: str, body_sha256: str, job: Job, answer: JsonObject) -> None:
    """Keep a client's key together with the job it made and how that was answered."""
    made = {"job": job.id, "created_at": job.created_at, "answer": answer}
    session.add(IdempotencyKey(key=key, body_sha256=body_sha256, **made))


def recall(session: Session, key: str) -> tuple[str, JsonObject | None] | None:
    """The hash of the body that a key was used for, and the answer to it."""
    found = session.get(IdempotencyKey, key)
    return (found.body_sha256, found.answer) if found else None


def forget(session: Session, before: float) -> None:
    """Drop the keys that were first used before then, except those of jobs that are there."""
    there = exists().where(Job.id == IdempotencyKey.job, Job.deleted_at.is_(None))
    old = IdempotencyKey.created_at < before
    session.execute(delete(IdempotencyKey).where(old, ~there))
