"""Moves jobs forward: claims items, has them computed, commits what comes of them.

It is one thread of the server and the only writer of items. What it holds in memory can be lost at
any moment: the database says what is left to do.
"""

import logging
import queue
import threading
import time
import uuid
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from deconvnet_app.artifacts import ArtifactStore, disk_refusal, sha256
from deconvnet_app.catalog.datasets import Datasets
from deconvnet_app.compute.scheduler import Compute, Priority, Task
from deconvnet_app.compute.spec import Origin, UnitError, UnitSpec, WorkerLostError
from deconvnet_app.db import jobs as store
from deconvnet_app.db.engine import Database
from deconvnet_app.db.models import Job
from deconvnet_app.errors import DamagedError, Refusal, StorageFullError
from deconvnet_app.jobs.outcomes import Change, failure, hopeless, said, success, unstorable

log = logging.getLogger(__name__)

FULL_PAUSE_S = 5.0
MOST_PATIENCE_S = 5.0
STUCK_S = 120.0  # longer than any wait for the database


@dataclass
class _Flight:
    claim: store.Claim
    task: Task | None = None


class Coordinator:
    """Runs the jobs of one database.

    Args:
        db: where jobs are.
        compute: what computes their items.
        artifacts: checked for room before items start.
        datasets: where inputs are read that are not uploads.
        ahead: how many items are claimed at once.
    """

    def __init__(
        self,
        db: Database,
        compute: Compute,
        artifacts: ArtifactStore,
        datasets: Datasets,
        ahead: int = 4,
    ) -> None:
        self.owner = uuid.uuid4().hex
        self._db = db
        self._compute = compute
        self._artifacts = artifacts
        self._datasets = datasets
        self._ahead = ahead
        self._flights: dict[tuple[int, int], _Flight] = {}
        self._inbox: queue.SimpleQueue[tuple[store.Claim, Change] | None] = queue.SimpleQueue()
        self._changes: list[tuple[store.Claim, Change]] = []
        self._refusal = ""  # what the log was told last
        self._aside: set[store.Place] = set()  # items that cannot be claimed
        self._untold: set[tuple[int, int, int]] = set()  # claims whose end cannot be stored
        self._cancelled: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._deadlines: dict[tuple[int, float], float] = {}
        self._draining = False
        self._doubt = False  # whether the last commit failed: it may have been made all the same
        self._tenure = 0  # of the database, as of the last look for claims that nobody holds
        self._not_before = 0.0
        self._trouble: str | None = None
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="coordinator", daemon=True)

    def start(self) -> None:
        """Take over what an earlier server has left, and begin."""
        try:
            with self._db.write() as session:
                adopted = store.adopt(session, (), time.time())
        except Exception as error:
            if not hopeless(error):
                raise
            adopted = self._adopt_each()
        if adopted:
            log.info("%d items were under way when the last server ended", adopted)
        self._thread.start()

    def wake(self) -> None:
        """There is something new to do."""
        self._inbox.put(None)

    def cancelled(self, job: int) -> None:
        """That job shall end: what waits of it is dropped, what runs ends at its next step."""
        self._cancelled.put(job)
        self.wake()

    def drain(self) -> None:
        """Claim nothing any more, and end once nothing is under way."""
        self._draining = True
        self.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the end after `drain`."""
        self._thread.join(timeout_s)

    @property
    def trouble(self) -> str | None:
        """Why jobs do not go on though the database would let them; None: they do."""
        if not self._thread.is_alive():
            return "it has ended"
        stood = time.monotonic() - self._moved
        return self._trouble or (f"it hangs since {stood:.0f} s" if stood > STUCK_S else None)

    def _loop(self) -> None:
        patience = 0.25
        while not (self._draining and not self._flights and not self._changes):
            try:
                self._step()
                patience, self._trouble = 0.25, None
            except (SQLAlchemyError, OSError, StorageFullError, DamagedError) as error:
                log.warning("Jobs do not go on: %s; trying again", error)
                if isinstance(error, DamagedError):
                    self._trouble = "the database is damaged"
                time.sleep(patience)
                patience = min(2 * patience, MOST_PATIENCE_S)
            except BaseException as error:
                self._trouble = f"it crashes ({type(error).__name__})"
                log.critical("The coordinator crashed and begins anew", exc_info=True)
                self._begin_anew()
                time.sleep(patience)
                patience = min(2 * patience, MOST_PATIENCE_S)

    def _step(self) -> None:
        self._moved = time.monotonic()
        self._gather()
        for claim in self._transact():
            self._launch(claim)
        self._enforce()

    def _begin_anew(self) -> None:
        """Forget what was under way, as after a start: what memory holds may be why it crashed.

        The next transaction gives those items back; what their workers still say is void.
        """
        for flight in self._flights.values():
            if flight.task is not None:
                self._compute.end(flight.task.ticket)
        self._flights.clear()
        self._changes.clear()
        self._deadlines.clear()
        self._doubt = True

    def _gather(self) -> None:
        """Wait for news, then take all there is."""
        timeout = 0.25 if self._flights else 1.0
        try:
            news = [self._inbox.get(timeout=timeout)]
        except queue.Empty:
            return
        while not self._inbox.empty():
            news.append(self._inbox.get())
        self._changes += [one for one in news if one is not None]

    def _room(self) -> int:
        if self._draining or time.monotonic() < self._not_before:
            return 0
        landed = len(self._changes)
        return self._ahead - len(self._flights) + landed

    def _transact(self) -> list[store.Claim]:
        """Commit the changes and claim anew, in one transaction."""
        room = self._room()
        if room > 0 and not self._enough_disk():
            room = 0
        self._doubt = self._doubt or self._tenure != self._db.tenures
        if not self._changes and not self._doubt and (room <= 0 or not self._pending()):
            return []
        now = time.time()
        doubt, self._doubt, tenure = self._doubt, True, self._db.tenures
        try:
            with self._db.write() as session:
                for _, change in self._changes:
                    change(session, now)
                if doubt:
                    store.adopt(session, self._held(), now)
                claims = (
                    store.claim(session, self.owner, room, now, self._aside) if room > 0 else []
                )
        except Exception as error:
            if not hopeless(error):
                raise
            self._note_refusal(said(error))
            self._commit_each()
            if doubt:
                self._adopt_each()
                self._doubt, self._tenure = False, tenure  # what is left is refused for good
            return self._claim_each(room)
        self._doubt, self._tenure = False, tenure
        for claim, _ in self._changes:
            self._land(claim)
        self._changes.clear()
        self._hold(claims)
        return claims

    def _hold(self, claims: list[store.Claim]) -> None:
        for claim in claims:
            self._flights[_place(claim)] = _Flight(claim)

    def _note_refusal(self, text: str) -> None:
        if text != self._refusal:
            log.error("A transaction is refused for good, and made in parts: %s", text)
        self._refusal = text

    def _adopt_each(self) -> int:
        """Give back, job by job, what nobody computes, as the rows of one job are damaged."""
        with self._db.read() as session:
            jobs = store.active(session)
        found: list[int] = []
        for job in jobs:

            def adopt(session: Session, now: float, job: int = job) -> None:
                found.append(store.adopt(session, self._held(), now, only=job))

            if (refused := self._refused(adopt)) is not None:
                log.error("Job %d stays as it is: %s", job, said(refused))
        return sum(found)

    def _claim_each(self, room: int) -> list[store.Claim]:
        """Claim items one by one, as the database would not let one of them be claimed.

        That one is left aside until the next start: the database would not let it fail either.
        """
        claims: list[store.Claim] = []
        for _ in range(max(0, room)):
            with self._db.read() as session:
                place = store.next_pending(session, self._aside)
            if place is None:
                break
            claims += self._take(place)
        self._hold(claims)
        return claims

    def _take(self, place: store.Place) -> list[store.Claim]:
        """The claim of an item; nothing, and it is left aside, where the database refuses."""
        claims: list[store.Claim] = []
        refused = self._refused(
            lambda session, now: claims.append(store.claim_one(session, self.owner, place, now))
        )
        if refused is None:
            return claims
        job, n = place
        log.error("Item %d of job %d cannot be started: %s", n, job, said(refused))
        self._aside.add(place)
        return []

    def _commit_each(self) -> None:
        """Commit the changes one by one, as the database refused one of them for good.

        That one's item fails. If the database does not take that either, its claim stands until
        the next start, and is in nobody's way.
        """
        while self._changes:
            claim, change = self._changes[0]
            if (refused := self._refused(change)) is not None:
                error = unstorable(refused)
                log.error("Item %d of job %d: %s", claim.n, claim.job, error)
                if self._refused(failure(claim, error)) is not None:
                    self._untold.add((claim.job, claim.n, claim.attempt))
            self._changes.pop(0)
            self._land(claim)

    def _refused(self, change: Change) -> Exception | None:
        """Commit a change; why the database will never take it, if so."""
        try:
            with self._db.write() as session:
                change(session, time.time())
        except Exception as error:
            if hopeless(error):
                return error
            raise
        return None

    def _land(self, claim: store.Claim) -> None:
        """The claim is at its end."""
        flight = self._flights.get(_place(claim))
        if flight is not None and flight.claim is claim:
            del self._flights[_place(claim)]

    def _held(self) -> set[tuple[int, int, int]]:
        claims = (flight.claim for flight in self._flights.values())
        return self._untold | {(claim.job, claim.n, claim.attempt) for claim in claims}

    def _pending(self) -> bool:
        with self._db.read() as session:
            return store.has_pending(session)

    def _enough_disk(self) -> bool:
        try:
            self._artifacts.require_room(0)
        except StorageFullError:
            return False
        return True

    def _launch(self, claim: store.Claim) -> None:
        try:
            self._note_deadline(claim)
            spec = self._spec(claim)
            found = self._compute.cached(spec)
            if found is not None:
                self._inbox.put((claim, success(claim, found)))
                return
            task = self._compute.submit(spec, Priority.JOB)
        except OSError as error:  # of the disk, or of this process: no fault of the item's
            full = UnitError("storage_full", str(disk_refusal(error) or error), 507)
            self._wait_for_room(full)
            self._inbox.put((claim, failure(claim, full)))
            return
        except Exception as error:
            if not isinstance(error, UnitError | Refusal | WorkerLostError):
                log.exception("Item %d of job %d cannot be started", claim.n, claim.job)
            self._inbox.put((claim, failure(claim, error)))
            return
        self._flights[_place(claim)].task = task
        task.future.add_done_callback(lambda _: self._inbox.put((claim, self._ending(claim, task))))

    def _ending(self, claim: store.Claim, task: Task) -> Change:
        error = task.future.exception()
        if getattr(error, "code", None) == "storage_full":
            self._wait_for_room(error)
        if error is not None:
            return failure(claim, error)
        try:
            return success(claim, task.future.result())
        except Exception as unfit:
            log.exception("The result of item %d of job %d is unfit", claim.n, claim.job)
            return failure(claim, unfit)

    def _wait_for_room(self, error: BaseException | None) -> None:
        log.warning("No item is started for %g s: %s", FULL_PAUSE_S, error)
        self._not_before = time.monotonic() + FULL_PAUSE_S

    def _spec(self, claim: store.Claim) -> UnitSpec:
        given, request = claim.input, claim.request
        content, origin = given.sha256, None
        if given.dataset is not None and given.path is not None:
            origin = Origin(dataset=given.dataset, path=given.path)
            try:
                content = sha256(self._datasets.read(given.dataset, given.path))
            except OSError as error:
                detail = f"'{given.path}' of dataset '{given.dataset}' cannot be read any more."
                raise UnitError("input_missing", detail) from error
        return UnitSpec(
            kind="explain",
            model=request["model"],
            method=request["method"],
            params=request["params"],
            target=request["target"],
            image=content,
            origin=origin,
        )

    def _note_deadline(self, claim: store.Claim) -> None:
        limit = claim.request.get("timeout_s")
        if limit is not None:
            self._deadlines.setdefault((claim.job, claim.run), time.monotonic() + limit)

    def _enforce(self) -> None:
        """End what is cancelled or overdue."""
        now = time.monotonic()
        while not self._cancelled.empty():
            self._end_flights(self._cancelled.get())
        for job, run in [key for key, deadline in self._deadlines.items() if now > deadline]:
            if self._expire(job, run):
                self._end_flights(job)
            del self._deadlines[job, run]

    def _end_flights(self, job: int) -> None:
        for flight in self._flights.values():
            if flight.claim.job == job and flight.task is not None:
                self._compute.end(flight.task.ticket)

    def _expire(self, job: int, run: float) -> bool:
        """Start no further item of a job whose time is over; whether it had any to start."""
        error = {"code": "expired", "detail": "The job took longer than its timeout_s."}
        going = False

        def stop(session: Session, now: float) -> None:
            nonlocal going
            found = session.get(Job, job)
            going = found is not None and found.state == "running" and found.started_at == run
            if found is not None and going:
                store.stop(session, found, now, error, "cancelling")

        if (refused := self._refused(stop)) is not None:
            log.error("Job %d cannot expire and goes on: %s", job, said(refused))
            return False
        return going


def _place(claim: store.Claim) -> tuple[int, int]:
    return claim.job, claim.n
