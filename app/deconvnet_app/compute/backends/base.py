"""Where units run: what every backend does, and what it says."""

from dataclasses import dataclass
from typing import Protocol

from deconvnet_app.compute.spec import Lost, Progress, UnitError, UnitResult, UnitSpec


@dataclass(frozen=True)
class Outcome:
    """News of the unit submitted under `ticket`: Progress, maybe often, then how it ended."""

    ticket: int
    value: Progress | UnitResult | UnitError | Lost


class Backend(Protocol):
    """Runs units; driven by one thread, but `wake` may be called from any."""

    def free(self) -> int:
        """How many more units may be submitted now."""

    def submit(self, ticket: int, spec: UnitSpec, *, partials: bool = False) -> None:
        """Start a unit under a number of the caller's choice; `partials`: tell what it has so far.

        The result does not depend on `partials`.
        """

    def poll(self, timeout_s: float) -> list[Outcome]:
        """News, in order for each unit, waiting up to `timeout_s` for some or for `wake`."""

    def stop(self, ticket: int) -> None:
        """Ask a running unit to end at its next step; `poll` tells it as `Lost`, unless it is done.

        A unit that makes no steps does not heed it.
        """

    def kill(self, ticket: int) -> None:
        """End a running unit by force; `poll` tells it as `Lost`."""

    def wake(self) -> None:
        """Let a waiting `poll` return."""

    def close(self) -> None:
        """End all workers."""
