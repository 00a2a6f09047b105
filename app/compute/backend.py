"""Where units run: the interface, and the inline one for tests."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from app.artifacts import ArtifactStore
from app.compute.run import run_unit
from app.compute.units import UnitError, UnitResult, UnitSpec
from app.compute.workshop import Workshop
from app.settings import Settings


@dataclass(frozen=True)
class Lost:
    """The worker died, or was killed, before the unit was done."""

    reason: str
    killed: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of the unit submitted under `ticket`."""

    ticket: int
    value: UnitResult | UnitError | Lost


class Backend(Protocol):
    """Runs units; driven by one thread, but `wake` may be called from any."""

    def free(self) -> int:
        """How many more units may be submitted now."""

    def submit(self, ticket: int, spec: UnitSpec) -> None:
        """Start a unit under a number of the caller's choice."""

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The units that have ended, waiting up to `timeout_s` for one or for `wake`."""

    def kill(self, ticket: int) -> None:
        """End a running unit by force; `poll` tells it as `Lost`."""

    def wake(self) -> None:
        """Let a waiting `poll` return."""

    def close(self) -> None:
        """End all workers."""


class InlineBackend:
    """Runs each unit where it is submitted, in the same process."""

    def __init__(self, settings: Settings) -> None:
        self._workshop = Workshop(settings, ArtifactStore(settings.data_dir / "artifacts"))
        self._done: deque[Outcome] = deque()
        self._woken = threading.Event()

    def free(self) -> int:
        return 0 if self._done else 1

    def submit(self, ticket: int, spec: UnitSpec) -> None:
        try:
            self._done.append(Outcome(ticket, run_unit(spec, self._workshop)))
        except UnitError as error:
            self._done.append(Outcome(ticket, error))

    def poll(self, timeout_s: float) -> list[Outcome]:
        if not self._done:
            self._woken.wait(timeout_s)
        self._woken.clear()
        done = list(self._done)
        self._done.clear()
        return done

    def kill(self, ticket: int) -> None:
        """Nothing: a unit has ended when `submit` returns."""

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        """Nothing to end."""
