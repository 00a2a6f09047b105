"""Gives units to the backend: pages before jobs, each within its deadline, each at most once."""

import asyncio
import heapq
import itertools
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum

from app.artifacts import ArtifactStore
from app.compute.backend import Backend, InlineBackend, Lost, Outcome
from app.compute.cache import ResultCache
from app.compute.process import ProcessBackend
from app.compute.sources import fingerprint, model_source
from app.compute.units import UnitError, UnitResult, UnitSpec
from app.errors import AppError
from app.metrics import Metrics
from app.settings import Settings

log = logging.getLogger(__name__)


class Priority(IntEnum):
    """Who waits for whom."""

    INTERACTIVE = 0
    JOB = 1


class WorkerLostError(AppError):
    """The worker ended before the unit was done; `wanted`: because it was told to."""

    def __init__(self, reason: str, *, wanted: bool = False) -> None:
        super().__init__(reason)
        self.wanted = wanted


@dataclass(order=True)
class Task:
    """A unit on its way; `future` tells its result, UnitError or WorkerLostError."""

    priority: Priority
    ticket: int
    spec: UnitSpec = field(compare=False)
    key: str = field(compare=False)
    retries: int = field(compare=False, default=0)
    future: "Future[UnitResult]" = field(compare=False, default_factory=Future)
    deadline: float = field(compare=False, default=0.0)
    overdue: bool = field(compare=False, default=False)


def make_backend(settings: Settings) -> Backend:
    """The backend that the settings name."""
    if settings.backend == "inline":
        return InlineBackend(settings)
    return ProcessBackend(settings)


class Compute:
    """Runs units; safe to use from any thread.

    Args:
        settings: which models there are, and the deadline of a unit.
        artifacts: where pictures and arrays go.
        metrics: is told of units' times and workers' deaths.
    """

    def __init__(self, settings: Settings, artifacts: ArtifactStore, metrics: Metrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self.artifacts = artifacts
        self.cache = ResultCache(settings.data_dir / "results", artifacts)
        self.backend = make_backend(settings)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._queue: list[Task] = []
        self._running: dict[int, Task] = {}
        self._shared: dict[str, Task] = {}
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

        Interactive units that are alike and on their way share one task.
        """
        key = self.key(spec)
        with self._lock:
            if self._stopping:
                raise WorkerLostError("the server is stopping", wanted=True)
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
                return await asyncio.shield(asyncio.wrap_future(task.future))
        except TimeoutError as error:
            raise UnitError("not_ready", "This is still being computed; try again.", 503) from error
        except WorkerLostError as error:
            raise UnitError("worker_lost", f"The computation failed: {error}.", 503) from error

    def withdraw(self, ticket: int) -> None:
        """Take a unit out of the queue, if it is still there."""
        with self._lock:
            dropped = [task for task in self._queue if task.ticket == ticket]
            self._queue = [task for task in self._queue if task.ticket != ticket]
            heapq.heapify(self._queue)
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
                for outcome in self.backend.poll(0.5):
                    self._finish(outcome)
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
            self.backend.submit(task.ticket, task.spec)
            free -= 1

    def _end_by_force(self) -> None:
        now = time.monotonic()
        with self._lock:
            doomed, self._doomed = self._doomed & self._running.keys(), set()
            for task in self._running.values():
                if now > task.deadline and not task.overdue:
                    task.overdue = True
                    doomed.add(task.ticket)
        for ticket in doomed:
            self.backend.kill(ticket)

    def _finish(self, outcome: Outcome) -> None:
        task = self._running[outcome.ticket]
        value = outcome.value
        if isinstance(value, Lost):
            self._metrics.workers_lost.inc()
        elif isinstance(value, UnitResult):
            method = task.spec.method or task.spec.kind
            self._metrics.units.labels(method, task.spec.model).observe(value.elapsed_s)
        if isinstance(value, Lost) and self._again(task, value):
            return
        if isinstance(value, UnitResult):
            self.artifacts.account(value.stored_bytes)
            try:
                self.cache.put(value)
            except (OSError, AppError) as error:
                log.warning("A result could not be kept in the cache: %s", error)
        with self._lock:
            del self._running[task.ticket]
            self._shared.pop(task.key, None)
        if isinstance(value, UnitResult):
            task.future.set_result(value)
        elif isinstance(value, UnitError):
            task.future.set_exception(value)
        elif task.overdue:
            limit = f"{self.settings.unit_timeout_s:g} s"
            task.future.set_exception(UnitError("deadline", f"Not done within {limit}.", 504))
        else:
            wanted = self._stopping or value.killed
            task.future.set_exception(WorkerLostError(value.reason, wanted=wanted))

    def _again(self, task: Task, lost: Lost) -> bool:
        if task.overdue or lost.killed or self._stopping or not task.retries:
            return False
        log.warning("Unit %s of %s lost: %s; again", task.spec.kind, task.spec.model, lost.reason)
        with self._lock:
            del self._running[task.ticket]
            task.retries -= 1
            heapq.heappush(self._queue, task)
        return True
