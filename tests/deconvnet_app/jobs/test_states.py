"""Jobs and their items against a model of them, whatever happens in whatever order.

At length: JOB_EXAMPLES=10000 pytest tests/deconvnet_app/jobs/test_states.py
"""

import os
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import delete, func, select, update

from deconvnet_app.db import jobs as store
from deconvnet_app.db.engine import Database
from deconvnet_app.db.models import Event, Item, Job

DAY_S = 86_400.0
EXAMPLES = int(os.environ.get("JOB_EXAMPLES", "200"))
MEMORY = Path("/dev/shm")  # a folder in memory, where there is one: nothing here loses power
MOST_JOBS = 3


@dataclass(frozen=True)
class Place:
    """A claim as the model knows it: no two are the same."""

    job: int
    n: int
    owner: str
    attempt: int


def place(claim: store.Claim) -> Place:
    return Place(claim.job, claim.n, claim.owner, claim.attempt)


class Jobs(RuleBasedStateMachine):
    """`model` holds each item's state, `claims` each claim ever made, `standing` those in force.

    One database serves all examples: each empties it at its end.
    """

    folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
    db = Database(Path(folder.name, "jobs.sqlite"))
    migrated = False

    def __init__(self) -> None:
        super().__init__()
        if not Jobs.migrated:
            self.db.migrate()
            Jobs.migrated = True
        self.now = 1e9
        self.owner = "server 0"
        self.servers = 1
        self.model: dict[int, list[str]] = {}
        self.deaths: Counter[tuple[int, int]] = Counter()
        self.claims: list[store.Claim] = []
        self.standing: set[Place] = set()

    def set_all(self, job: int, old: str, new: str) -> None:
        self.model[job] = [new if one == old else one for one in self.model[job]]

    def late(self) -> list[store.Claim]:
        """Void claims that one thing alone tells from those that stand: the owner, or the count."""
        return [
            one
            for one in self.claims
            for other in self.standing
            if (one.job, one.n) == (other.job, other.n)
            and (one.owner == other.owner) != (one.attempt == other.attempt)
        ]

    @initialize(total=st.integers(1, 3))
    def begin(self, total: int) -> None:
        self.submit(total)

    @precondition(lambda self: len(self.model) < MOST_JOBS)
    @rule(total=st.integers(1, 3))
    def submit(self, total: int) -> None:
        job = Job(
            id=uuid.uuid4().hex, state="queued", request={}, fingerprints={}, total=total,
            created_at=self.now, updated_at=self.now, version=0, succeeded=0, failed=0, skipped=0,
        )  # fmt: skip
        with self.db.write() as session:
            store.create(session, job, [store.Input(image=str(n)) for n in range(total)])
            self.model[job.seq] = ["pending"] * total

    @precondition(lambda self: any("pending" in one for one in self.model.values()))
    @rule(most=st.integers(1, 4))
    def claim(self, most: int) -> None:
        with self.db.write() as session:
            claims = store.claim(session, self.owner, most, self.now)
        pending = sum(one.count("pending") for one in self.model.values())
        assert len(claims) == min(most, pending)
        for one in claims:
            assert self.model[one.job][one.n] == "pending"
            self.model[one.job][one.n] = "running"
            self.claims.append(one)
            self.standing.add(place(one))

    @precondition(lambda self: self.standing)
    @rule(data=st.data(), how=st.sampled_from(("let go", "die", "crash", "forgetful crash")))
    def lose(self, data: st.DataObject, how: str) -> None:
        """Claims are given back or lost, and what waits is claimed anew at once."""
        standing = [one for one in self.claims if place(one) in self.standing]
        if how in ("let go", "die"):
            self.finish(data.draw(st.sampled_from(standing)), how)
        else:
            self.crash(how == "forgetful crash")
        self.claim(4)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(("succeed", "fail", "die", "let go")))
    def end(self, data: st.DataObject, how: str) -> None:
        """Of any claim that was ever made: only one that stands counts."""
        self.finish(data.draw(st.sampled_from(self.claims)), how)

    @precondition(lambda self: self.late())
    @rule(data=st.data(), how=st.sampled_from(("succeed", "fail", "die", "let go")))
    def end_late(self, data: st.DataObject, how: str) -> None:
        """The item has been claimed anew meanwhile."""
        self.finish(data.draw(st.sampled_from(self.late())), how)

    def finish(self, claim: store.Claim, how: str) -> None:
        valid = place(claim) in self.standing
        self.standing.discard(place(claim))
        with self.db.write() as session:
            job = session.get(Job, claim.job)
            if job is None:
                return
            cancelling = job.state == "cancelling"
            if how == "succeed":
                assert store.succeed(session, claim, {}, self.now) == valid
                new = "succeeded"
            elif how == "fail":
                assert store.fail(session, claim, {"code": "broken"}, self.now) == valid
                new = "failed"
            else:
                died = how == "die"
                given = store.release(session, claim, self.now, died=died, most_deaths=3)
                assert given == valid
                self.deaths[claim.job, claim.n] += valid and died
                set_aside = died and self.deaths[claim.job, claim.n] >= 3
                new = "failed" if set_aside else "skipped" if cancelling else "pending"
        if valid:
            self.model[claim.job][claim.n] = new

    @precondition(lambda self: self.model)
    @rule(data=st.data(), how=st.sampled_from(("cancel", "retry", "delete")))
    def ask(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        with self.db.write() as session:
            job = session.get_one(Job, number)
            if how == "cancel" and job.state in ("queued", "running"):
                store.stop(session, job, self.now, None, "cancelling")
                self.set_all(number, "pending", "skipped")
            elif how == "retry" and job.state in store.TERMINAL:
                found = "failed" in self.model[number]
                assert store.retry(session, job, self.now) == found
                for n, state in enumerate(self.model[number]):
                    if state == "failed":
                        self.deaths[number, n] = 0
                self.set_all(number, "failed", "pending")
            elif how == "delete" and job.state in store.TERMINAL:
                store.remove(session, job, self.now)
                session.flush()
                assert store.get(session, job.id) is None
                del self.model[number]

    @rule(forgetful=st.booleans())
    def crash(self, forgetful: bool) -> None:
        """A new server takes over; what the old one had claimed is void.

        A forgetful database, such as a replica or a backup, has lost the claims too: it will give
        their numbers again, to another owner.
        """
        self.owner = f"server {self.servers}"
        self.servers += 1
        with self.db.write() as session:
            if forgetful:
                running = update(Item).where(Item.state == "running")
                session.execute(running.values(attempt=Item.attempt - 1))
            found = session.execute(select(Job.seq).where(Job.state == "cancelling"))
            ending = set(found.scalars())
            store.adopt(session, (), self.now)
        for number in self.model:
            self.set_all(number, "running", "skipped" if number in ending else "pending")
        self.standing.clear()

    @rule(days=st.sampled_from((-1, 1)))
    def jump(self, days: int) -> None:
        self.now += days * DAY_S

    @invariant()
    def it_agrees(self) -> None:
        told = func.count(Event.version), func.max(Event.version)
        with self.db.read() as session:
            jobs = session.execute(
                select(Job.seq, Job.state, Job.finished_at, Job.version, Job.succeeded)
                .add_columns(Job.failed, Job.skipped, *told)
                .join(Event, Event.job == Job.seq)
                .group_by(Job.seq)
            ).all()
            rows = session.execute(select(Item.job, Item.state).order_by(Item.job, Item.n)).all()
        found = {number: rest for number, *rest in jobs}
        for number, states in self.model.items():
            assert [state for job, state in rows if job == number] == states
            state, finished_at, version, *counts, events, last = found[number]
            assert counts == [states.count(one) for one in ("succeeded", "failed", "skipped")]
            assert (state in store.TERMINAL) == (sum(counts) == len(states))
            assert (finished_at is not None) == (state in store.TERMINAL)
            assert (events, last) == (version, version)

    def teardown(self) -> None:
        with self.db.write() as session:
            for table in (Event, Item, Job):
                session.execute(delete(table))


TestJobs = Jobs.TestCase
TestJobs.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
