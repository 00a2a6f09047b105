"""The default backend: worker processes, watched through their pipes.

They are forked from a server that has imported what they need and done nothing else, so that one
that died is replaced in milliseconds. Only Linux forks safely after such imports; elsewhere each
worker is a new interpreter.
"""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

from deconvnet_app.compute.backends.base import Outcome
from deconvnet_app.compute.spec import Lost, Progress, UnitSpec
from deconvnet_app.compute.worker import work
from deconvnet_app.settings import Settings


def _context() -> ForkServerContext | SpawnContext:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.preload"])
    return context


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    ticket: int | None = None
    killed: bool = False

    @property
    def free(self) -> bool:
        return self.ready and self.ticket is None


class ProcessBackend:
    """Keeps `settings.workers` processes; one that dies is replaced.

    A process gets its first unit when it has started up, so that a unit's deadline counts its own
    time only. A unit that was running in a process that died is told as `Lost`. Workers that die
    without having had a unit are replaced after a pause that doubles, up to half a minute.

    Args:
        settings: also for the workers.
        target: what a process does; it is given its end of a pipe, and the settings.
    """

    def __init__(
        self, settings: Settings, target: Callable[[Connection, Settings], None] = work
    ) -> None:
        self._settings = settings
        self._target = target
        self._context = _context()
        self._workers: list[_Worker] = []
        self._idle_deaths = 0
        self._not_before = 0.0
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)

    def start(self) -> None:
        """Start the workers that are missing, unless they keep dying."""
        if time.monotonic() < self._not_before:
            return
        while len(self._workers) < self._settings.workers:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=self._target,
                args=(theirs, self._settings),
                name="deconvnet-worker",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid or 0 for worker in self._workers]

    def free(self) -> int:
        self.start()
        return sum(worker.free for worker in self._workers)

    def submit(self, ticket: int, spec: UnitSpec, *, partials: bool = False) -> None:
        worker = next(worker for worker in self._workers if worker.free)
        worker.ticket = ticket
        # A worker that has just died is told by `poll`, with this ticket.
        with contextlib.suppress(OSError):
            worker.connection.send((ticket, spec, partials))

    def poll(self, timeout_s: float) -> list[Outcome]:
        handles: list[Connection | int] = [worker.connection for worker in self._workers]
        ready = wait([*handles, self._wake_out], timeout_s)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_out, 4096):
                pass
        outcomes = []
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            outcome = self._receive(worker)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def _receive(self, worker: _Worker) -> Outcome | None:
        try:
            message: Outcome | None = worker.connection.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        self._idle_deaths = 0
        if message is None:
            worker.ready = True
            return None
        if not isinstance(message.value, Progress):
            worker.ticket = None
        return message

    def _bury(self, worker: _Worker) -> Outcome | None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        if worker.ticket is None:
            self._not_before = time.monotonic() + min(30.0, 2.0**self._idle_deaths)
            self._idle_deaths += 1
            return None
        return Outcome(worker.ticket, self._lost(worker.process.exitcode, worker.killed))

    def _lost(self, exitcode: int | None, killed: bool) -> Lost:
        """What is said of a unit whose process ended."""
        return Lost(f"the worker process ended with code {exitcode}", killed)

    def stop(self, ticket: int) -> None:
        for worker in self._workers:
            if worker.ticket == ticket:
                with contextlib.suppress(OSError):
                    worker.connection.send(ticket)

    def kill(self, ticket: int) -> None:
        for worker in self._workers:
            if worker.ticket == ticket:
                worker.killed = True
                worker.process.kill()

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_in, b"w")

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()
        os.close(self._wake_in)
        os.close(self._wake_out)
