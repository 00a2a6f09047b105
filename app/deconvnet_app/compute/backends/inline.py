"""The backend for tests: each unit runs where it is submitted."""

import threading
from collections import deque

from deconvnet_app.compute.backends.base import Outcome
from deconvnet_app.compute.resources import local_resources
from deconvnet_app.compute.run import run_unit
from deconvnet_app.compute.spec import UnitSpec
from deconvnet_app.settings import Settings


class InlineBackend:
    """Runs units in the caller's thread; what they tell is heard when they have ended."""

    def __init__(self, settings: Settings) -> None:
        self._resources = local_resources(settings)
        self._news: deque[Outcome] = deque()
        self._woken = threading.Event()

    def free(self) -> int:
        return 0 if self._news else 1

    def submit(self, ticket: int, spec: UnitSpec, *, partials: bool = False) -> None:
        value = run_unit(
            spec, self._resources, lambda said: self._news.append(Outcome(ticket, said)),
            partials=partials,
        )  # fmt: skip
        self._news.append(Outcome(ticket, value))

    def poll(self, timeout_s: float) -> list[Outcome]:
        if not self._news:
            self._woken.wait(timeout_s)
        self._woken.clear()
        news = list(self._news)
        self._news.clear()
        return news

    def stop(self, ticket: int) -> None:
        """Nothing: a unit has ended when `submit` returns."""

    def kill(self, ticket: int) -> None:
        """Nothing, likewise."""

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._resources.close()
