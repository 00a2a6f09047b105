"""What is past its time, and which stored files nothing names any more.

The tables are walked a page at a time, each in a transaction of its own: a reader that takes long
would keep every writer waiting.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import delete, exists, select, tuple_
from sqlalchemy.orm import Session

from deconvnet_app.db import jobs as store
from deconvnet_app.db.engine import Database
from deconvnet_app.db.models import Image, Item, Job

PAGE = 500


def expire(session: Session, before: float, now: float) -> int:
    """Take away the jobs that ended before then, and keys that are as old; how many jobs."""
    ended = select(Job).where(
        Job.state.in_(store.TERMINAL), Job.finished_at < before, Job.deleted_at.is_(None)
    )
    jobs = session.scalars(ended).all()
    for job in jobs:
        store.remove(session, job, now)
    store.forget(session, before)
    return len(jobs)


def removed(session: Session, before: float) -> Sequence[int]:
    """The jobs that were taken away before then."""
    return session.scalars(select(Job.seq).where(Job.deleted_at < before)).all()


def results(db: Database, jobs: Collection[int], *, of_them: bool) -> Iterator[dict[str, Any]]:
    """The results of these jobs' items, or (`of_them` is false) of all others'."""
    which = Item.job.in_(jobs) if of_them else Item.job.not_in(jobs)
    place = (-1, -1)
    while True:
        with db.read() as session:
            query = (
                select(Item.job, Item.n, Item.result)
                .where(which, tuple_(Item.job, Item.n) > place, Item.result.is_not(None))
                .order_by(Item.job, Item.n)
                .limit(PAGE)
            )
            rows = session.execute(query).all()
        if not rows:
            return
        for job, n, result in rows:
            place = (job, n)
            yield result or {}


def images(db: Database) -> Iterator[tuple[str, str, bool]]:
    """Every uploaded image: its id, its file, and whether an item is about it."""
    place = ""
    while True:
        with db.read() as session:
            asked = exists().where(Item.image == Image.id)
            query = select(Image.id, Image.sha256, asked).where(Image.id > place)
            rows = session.execute(query.order_by(Image.id).limit(PAGE)).all()
        if not rows:
            return
        for image, sha256, used in rows:
            place = image
            yield image, sha256, used


def forget_images(session: Session, ids: Collection[str]) -> None:
    """Drop the rows of these images, except those that an item is about."""
    asked = exists().where(Item.image == Image.id)
    for one in ids:
        session.execute(delete(Image).where(Image.id == one, ~asked))


def erase(session: Session, job: int) -> None:
    """Drop a job with its items and events."""
    session.execute(delete(Job).where(Job.seq == job))
