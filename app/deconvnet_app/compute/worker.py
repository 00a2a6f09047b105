"""The worker process: receives specifications through a pipe, sends progress and results back.

It leaves when the pipe closes, that is, at once when the server has gone, whatever it is doing.
"""

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from deconvnet_app.compute.backends.base import Lost, Outcome
from deconvnet_app.compute.resources import Resources, local_resources
from deconvnet_app.compute.run import Tell, run_unit
from deconvnet_app.compute.spec import Progress, UnitError, UnitResult, UnitSpec
from deconvnet_app.settings import Settings

Order = tuple[int, UnitSpec, bool]  # ticket, what, whether partial results are wanted


def work(connection: Connection, settings: Settings) -> None:
    """Serve units until the other end of the pipe closes."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they reach the group; the server decides
        signal.signal(number, signal.SIG_IGN)
    inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
    unwanted: set[int] = set()
    threading.Thread(target=_receive, args=(connection, inbox, unwanted), daemon=True).start()

    if settings.memory_mb is not None:  # given by keyword, it is not in the environment yet
        os.environ["DECONVNET_MEMORY_MB"] = str(settings.memory_mb)
    resources = local_resources(settings)

    def serve(ticket: int, spec: UnitSpec, partials: bool) -> None:
        tell = heeding(
            lambda said: connection.send(Outcome(ticket, said)), lambda: ticket in unwanted
        )
        connection.send(Outcome(ticket, perform(spec, resources, tell, partials=partials)))
        unwanted.discard(ticket)

    connection.send(None)  # ready
    while True:
        serve(*inbox.get())


def _receive(
    connection: Connection, inbox: "queue.SimpleQueue[Order]", unwanted: set[int]
) -> None:  # fmt: skip
    """Take orders; a bare ticket takes one back."""
    while True:
        try:
            said: Order | int = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the main thread may be deep in a computation that nobody awaits
        if isinstance(said, int):
            unwanted.add(said)
        else:
            inbox.put(said)


log = logging.getLogger(__name__)


EVERY_S = 0.1


class StoppedError(Exception):
    """Nobody wants the unit any more."""


def perform(
    spec: UnitSpec, resources: Resources, tell: Tell, *, partials: bool
) -> UnitResult | UnitError | Lost:
    """`run_unit`, with whatever goes wrong as a value."""
    try:
        return run_unit(spec, resources, tell, partials=partials)
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
