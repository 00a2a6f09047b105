"""The worker process: receives specifications through a pipe, sends progress and results back.

It leaves when the pipe closes, that is, at once when the server has gone, whatever it is doing.
"""

import logging
import os
import queue
import signal
import threading
from multiprocessing.connection import Connection

from deconvnet_app.compute.backends.base import Outcome
from deconvnet_app.compute.resources import local_resources
from deconvnet_app.compute.run import run_unit
from deconvnet_app.compute.spec import UnitSpec
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
        value = run_unit(
            spec,
            resources,
            lambda said: connection.send(Outcome(ticket, said)),
            unwanted=lambda: ticket in unwanted,
            partials=partials,
        )
        connection.send(Outcome(ticket, value))
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
