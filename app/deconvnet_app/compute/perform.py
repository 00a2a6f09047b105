"""A unit run by a worker: what becomes of it as a value, and what is said of it on the way."""

import logging
import time
from collections.abc import Callable

from deconvnet_app.compute.backend import Lost
from deconvnet_app.compute.run import Tell, run_unit
from deconvnet_app.compute.units import Progress, UnitError, UnitResult, UnitSpec
from deconvnet_app.compute.workshop import Workshop

log = logging.getLogger(__name__)

EVERY_S = 0.1


class StoppedError(Exception):
    """Nobody wants the unit any more."""


def perform(
    spec: UnitSpec, workshop: Workshop, tell: Tell, *, partials: bool
) -> UnitResult | UnitError | Lost:
    """`run_unit`, with whatever goes wrong as a value."""
    try:
        return run_unit(spec, workshop, tell, partials=partials)
    except UnitError as error:
        return error
    except StoppedError:
        return Lost("it was told to stop", killed=True, died=False)
    except Exception as error:
        log.exception("Unit %s of %s failed", spec.kind, spec.model)
        return UnitError("internal_error", f"{type(error).__name__}: {error}", 500)


def heeding(send: Tell, unwanted: Callable[[], bool]) -> Tell:
    """What a worker's unit tells: each partial result, but steps at most every `EVERY_S` seconds.

    It ends the unit (StoppedError) at the first step at which it is `unwanted`.
    """
    next_at = 0.0

    def tell(progress: Progress) -> None:
        nonlocal next_at
        if unwanted():
            raise StoppedError
        now = time.monotonic()
        if progress.partial is not None or now >= next_at:
            next_at = now + EVERY_S
            send(progress)

    return tell
