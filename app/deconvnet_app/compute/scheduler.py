"""Gives units to the backend: pages before jobs, each within its deadline, each at most once."""

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeVar

from deconvnet_app.artifacts import ArtifactStore
from deconvnet_app.catalog.models import fingerprint, model_source
from deconvnet_app.compute.backends.base import Backend, Outcome
from deconvnet_app.compute.cache import ResultCache
from deconvnet_app.compute.spec import (
    Lost,
    Progress,
    UnitError,
    UnitResult,
    UnitSpec,
    WorkerLostError,
)
from deconvnet_app.errors import AppError
from deconvnet_app.metrics import Metrics
from deconvnet_app.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

STOP_GRACE_S = 2.0
NEAR_S = 0.25
MOST_ABANDONED = 32  # of which what was known of them is kept
FAILED_S = 10.0  # how long a failure is remembered, for pages that look again


class Priority(IntEnum):
    """Who waits for whom."""

    INTERACTIVE = 0
    JOB = 1


@dataclass(order=True)
class Task:
    """A unit on its way.

    Attributes:
        future: tells its result, UnitError or WorkerLostError.
        progress: the newest; one without a partial result keeps the one before's.
        first: done as soon as there is something to show: a partial result, or the end.
    """

    priority: Priority
    ticket: int
    spec: UnitSpec = field(compare=False)
    key: str = field(compare=False)
    retries: int = field(compare=False, default=0)
    future: "Future[UnitResult]" = field(compare=False, default_factory=Future)
    progress: Progress = field(compare=False, default=Progress())
    first: "Future[None]" = field(compare=False, default_factory=Future)
    deadline: float = field(compare=False, default=0.0)
    overdue: bool = field(compare=False, default=False)
    unwanted: bool = field(compare=False, default=False)
    killed: bool = field(compare=False, default=False)

    def __post_init__(self) -> None:
        self.future.add_done_callback(lambda _: self.show())

    def show(self) -> None:
        """There is something to show."""
        if not self.first.done():
            self.first.set_result(None)


def _shielded(future: "Future[T]") -> "asyncio.Future[T]":
    """To wait for it without ending it; nobody need be there when it fails."""
    inner = asyncio.wrap_future(future)
    inner.add_done_callback(lambda done: done.cancelled() or done.exception())
    return asyncio.shield(inner)


async def _within(seconds: float, future: Future[Any]) -> bool:
    """Whether it is done within that time, well or badly."""
    try:
        async with asyncio.timeout(seconds):
            await _shielded(future)
    except TimeoutError:
        return False
    except (UnitError, WorkerLostError):
        return True
    return True


class Compute:
    """Runs units; safe to use from any thread.

    Args:
        settings: which models there are, and the deadline of a unit.
        artifacts: where pictures and arrays go.
        metrics: is told of units' times and workers' deaths.
        backend: where units run.
    """

    def __init__(
        self, settings: Settings, artifacts: ArtifactStore, metrics: Metrics, backend: Backend
    ) -> None:
        self.settings = settings
        self._metrics = metrics
        self.artifacts = artifacts
        self.cache = ResultCache(settings.data_dir / "results", artifacts)
        self.backend = backend
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._queue: list[Task] = []
        self._running: dict[int, Task] = {}
        self._shared: dict[str, Task] = {}
        self._leaving: set[int] = set()
        self._abandoned: dict[str, Task] = {}
        self._doomed: set[int] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="compute", daemon=True)

    def start(self) -> None:
        """Start the workers."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Finish what runs within `grace_s` seconds; kill the rest; drop what waits."""
        with self._lock:
            self._stopping = True
            waiting, self._queue = self._queue, []
        for task in waiting:
            task.future.set_exception(WorkerLostError("the server is stopping", wanted=True))
        self.backend.wake()
        self._thread.join(grace_s)
        for ticket in list(self._running):
            self.kill(ticket)
        self._thread.join(10)
        self.backend.close()

    @property
    def trouble(self) -> str | None:
        """Why no unit is given to a worker; None: they are."""
        return None if self._thread.is_alive() else "it has ended"

    def depth(self) -> dict[str, float]:
        """How many units wait for a worker, by priority, and how many run."""
        with self._lock:
            waiting = [task.priority for task in self._queue]
            running = len(self._running)
        depth = {one.name.lower(): float(waiting.count(one)) for one in Priority}
        return {**depth, "running": float(running)}

    def key(self, spec: UnitSpec) -> str:
        """The content key; raises Refusal for an unknown model."""
        return spec.key(fingerprint(model_source(self.settings, spec.model)))

    def cached(self, spec: UnitSpec) -> UnitResult | None:
        """The result if it has been computed already."""
        return self.cache.get(self.key(spec))

    def submit(self, spec: UnitSpec, priority: Priority, *, retries: int = 0) -> Task:
        """Queue a unit; `retries`: how often to try again when the worker dies of it.

        Interactive units that are alike and on their way share one task; so do those that are
        asked for again just after they failed.
        """
        key = self.key(spec)
        with self._lock:
            if self._stopping:
                raise WorkerLostError("the server is stopping", wanted=True)
            self._forget()
            if priority is Priority.INTERACTIVE and key in self._shared:
                return self._shared[key]
            task = Task(priority, next(self._numbers), spec, key, retries)
            if priority is Priority.INTERACTIVE:
                self._shared[key] = task
            heapq.heappush(self._queue, task)
        self.backend.wake()
        return task

    async def run(self, spec: UnitSpec, timeout: float | None = None) -> UnitResult:
        """The unit's result, computed if need be, before all jobs.

        A unit that is not done after `timeout` seconds goes on, and is found done later.

        Raises:
            UnitError: it cannot be computed, or not in time.
        """
        found = await asyncio.to_thread(self.cached, spec)
        if found is not None:
            return found
        task = self.submit(spec, Priority.INTERACTIVE, retries=2)
        try:
            async with asyncio.timeout(timeout):
                return await _shielded(task.future)
        except TimeoutError as error:
            raise UnitError("not_ready", "This is still being computed; try again.", 503) from error
        except WorkerLostError as error:
            raise UnitError("worker_lost", f"The computation failed: {error}.", 503) from error

    async def look(self, spec: UnitSpec, timeout: float) -> UnitResult | Progress:
        """The unit's result or, while it is computed, how far it is; computed if need be.

        It waits until there is something to show, `timeout` seconds at most; then `NEAR_S` more, in
        case the whole result is near.

        Raises:
            UnitError: it cannot be computed.
        """
        found = await asyncio.to_thread(self.cached, spec)
        if found is not None:
            return found
        task = self.submit(spec, Priority.INTERACTIVE, retries=2)
        if await _within(timeout, task.first):
            await _within(NEAR_S, task.future)
        return await self.run(spec) if task.future.done() else task.progress

    def seen(self, spec: UnitSpec) -> UnitResult | Progress:
        """What there is of a unit, which is not started for it: also of one that was abandoned."""
        found = self.cached(spec)
        if found is not None:
            return found
        with self._lock:
            task = self._shared.get(self.key(spec)) or self._abandoned.get(self.key(spec))
        progress = task.progress if task else Progress()
        partial = progress.partial
        if partial is not None and not self.artifacts.hold(*partial.files):
            return Progress()
        return progress

    def abandon(self, spec: UnitSpec) -> None:
        """Nobody wants this interactive unit any more: it ends, and what is known of it is kept."""
        with self._lock:
            task = self._shared.pop(self.key(spec), None)
            if task is None:
                return
            self._abandoned[task.key] = task
            if len(self._abandoned) > MOST_ABANDONED:
                del self._abandoned[next(iter(self._abandoned))]
        self.end(task.ticket)

    def end(self, ticket: int) -> None:
        """Take a unit out of the queue or, if it runs, let it end at its next step.

        One that takes no notice is ended by force after `STOP_GRACE_S` seconds.
        """
        with self._lock:
            self._leaving.add(ticket)
        self.withdraw(ticket)
        self.backend.wake()

    def withdraw(self, ticket: int) -> None:
        """Take a unit out of the queue, if it is still there."""
        with self._lock:
            dropped = [task for task in self._queue if task.ticket == ticket]
            self._queue = [task for task in self._queue if task.ticket != ticket]
            heapq.heapify(self._queue)
            for task in dropped:
                self._unshare(task)
        for task in dropped:
            task.future.set_exception(WorkerLostError("taken out of the queue", wanted=True))

    def kill(self, ticket: int) -> None:
        """End a unit: by force if it runs, else by taking it out of the queue."""
        self.withdraw(ticket)
        with self._lock:
            self._doomed.add(ticket)
        self.backend.wake()

    def _loop(self) -> None:
        while not (self._stopping and not self._running):
            try:
                self._dispatch()
                self._hear(self.backend.poll(0.5))
                self._end_by_force()
            except Exception:
                log.exception("The compute loop stumbled and goes on")
                time.sleep(0.5)

    def _dispatch(self) -> None:
        free = self.backend.free()
        while free > 0:
            with self._lock:
                if self._stopping or not self._queue:
                    return
                task = heapq.heappop(self._queue)
                self._running[task.ticket] = task
            task.deadline = time.monotonic() + self.settings.unit_timeout_s
            watched = task.priority is Priority.INTERACTIVE
            self.backend.submit(task.ticket, task.spec, partials=watched)
            free -= 1

    def _end_by_force(self) -> None:
        now = time.monotonic()
        with self._lock:
            leaving, self._leaving = self._leaving & self._running.keys(), set()
            for ticket in leaving:
                self._running[ticket].unwanted = True
                self._running[ticket].deadline = now + STOP_GRACE_S
            doomed, self._doomed = self._doomed & self._running.keys(), set()
            for task in self._running.values():
                if now > task.deadline and not task.killed:
                    task.killed, task.overdue = True, not task.unwanted
                    doomed.add(task.ticket)
        for ticket in leaving:
            self.backend.stop(ticket)
        for ticket in doomed:
            self.backend.kill(ticket)

    def _hear(self, news: Sequence[Outcome]) -> None:
        over = {one.ticket for one in news if not isinstance(one.value, Progress)}
        for one in news:
            task = self._running[one.ticket]
            if isinstance(one.value, Progress):
                self._note(task, one.value, over=one.ticket in over)
            else:
                self._finish(task, one.value)

    def _finish(self, task: Task, value: UnitResult | UnitError | Lost) -> None:
        self._measure(task, value)
        if isinstance(value, Lost) and self._again(task, value):
            return
        if isinstance(value, UnitResult):
            self.artifacts.account(value.stored_bytes)
            try:
                self.cache.put(value)
            except (OSError, AppError) as error:
                log.warning("A result could not be kept in the cache: %s", error)
        ending = self._lost(task, value) if isinstance(value, Lost) else value
        with self._lock:
            del self._running[task.ticket]
            task.deadline = time.monotonic() + FAILED_S
            if isinstance(ending, UnitResult) or getattr(ending, "wanted", False):
                self._unshare(task)
        if isinstance(ending, UnitResult):
            task.future.set_result(ending)
        else:
            task.future.set_exception(ending)

    def _measure(self, task: Task, value: UnitResult | UnitError | Lost) -> None:
        if isinstance(value, Lost) and value.died:
            self._metrics.workers_lost.inc()
        elif isinstance(value, UnitResult):
            method = task.spec.method or task.spec.kind
            self._metrics.units.labels(method, task.spec.model).observe(value.elapsed_s)

    def _lost(self, task: Task, lost: Lost) -> UnitError | WorkerLostError:
        if task.overdue:
            limit = f"{self.settings.unit_timeout_s:g} s"
            return UnitError("deadline", f"Not done within {limit}.", 504)
        return WorkerLostError(lost.reason, wanted=self._stopping or lost.killed)

    def _unshare(self, task: Task) -> None:
        if self._shared.get(task.key) is task:
            del self._shared[task.key]

    def _forget(self) -> None:
        """Let what failed a while ago be tried again."""
        now = time.monotonic()
        for task in [task for task in self._shared.values() if task.future.done()]:
            if now > task.deadline:
                del self._shared[task.key]

    def _note(self, task: Task, progress: Progress, *, over: bool) -> None:
        """Keep the newest; `over`: nobody need see it, as the unit has ended meanwhile."""
        if progress.partial is None:
            task.progress = replace(progress, partial=task.progress.partial)
            return
        self.artifacts.account(progress.partial.stored_bytes)
        task.progress = progress
        if not over:
            task.show()

    def _again(self, task: Task, lost: Lost) -> bool:
        if task.overdue or lost.killed or self._stopping or not (task.retries or lost.away):
            return False
        log.warning("Unit %s of %s lost: %s; again", task.spec.kind, task.spec.model, lost.reason)
        with self._lock:
            del self._running[task.ticket]
            task.retries -= not lost.away
            heapq.heappush(self._queue, task)
        return True
