"""The worker process: receives specifications through a pipe, sends results back.

It leaves when the pipe closes, that is, at once when the server has gone, whatever it is doing.
"""

import logging
import os
import queue
import signal
import threading
from multiprocessing.connection import Connection

from app.artifacts import ArtifactStore
from app.compute.run import run_unit
from app.compute.units import UnitError, UnitResult, UnitSpec
from app.compute.workshop import Workshop
from app.settings import Settings

log = logging.getLogger(__name__)


def work(connection: Connection, settings: Settings) -> None:
    """Serve units until the other end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the server decides
    inbox: queue.SimpleQueue[tuple[int, UnitSpec]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()

    workshop = Workshop(settings, ArtifactStore(settings.data_dir / "artifacts"))
    connection.send(None)  # ready
    while True:
        ticket, spec = inbox.get()
        value: UnitResult | UnitError
        try:
            value = run_unit(spec, workshop)
        except UnitError as error:
            value = error
        except Exception as error:
            log.exception("Unit %s of %s failed", spec.kind, spec.model)
            value = UnitError("internal_error", f"{type(error).__name__}: {error}", 500)
        connection.send((ticket, value))


def _receive(connection: Connection, inbox: "queue.SimpleQueue[tuple[int, UnitSpec]]") -> None:
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # the main thread may be deep in a computation that nobody awaits
