"""The process here that stands for one actor of a Ray cluster.

To the server it is a worker like any other: it takes orders through its pipe, is killed to end a
unit, and leaves when the pipe closes; its actor goes with it. It reads the images that the actor
needs and stores what comes back, so that the cluster's machines share no file with the server.

It ends with `GONE` when the cluster has, which no unit is to blame for.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from deconvnet_app.artifacts import ArtifactStore
from deconvnet_app.catalog.models import fingerprint, model_source
from deconvnet_app.compute.backends.base import Outcome
from deconvnet_app.compute.backends.ray.actor import Files, UnitActor
from deconvnet_app.compute.backends.ray.cluster import Cluster, gone, join, watch
from deconvnet_app.compute.backends.ray.start import ask, hire, lost_actor
from deconvnet_app.compute.resources import StoredInputs
from deconvnet_app.compute.spec import Progress, UnitError, UnitResult
from deconvnet_app.compute.worker import Order
from deconvnet_app.errors import ArtifactMissingError, ClusterError, Refusal, StorageFullError
from deconvnet_app.settings import Settings

GONE, DIED, REFUSED = 75, 70, 78  # exit codes: the cluster is away; the actor died; do not use it


def cluster_of(settings: Settings) -> Cluster:
    """The cluster that the settings name."""
    assert settings.ray_address is not None
    return Cluster(settings.ray_address, settings.ray_network, settings.ray_no_token)


def work_on_ray(environment: Mapping[str, str], connection: Connection, settings: Settings) -> None:
    """Serve units by an actor until the other end of the pipe closes.

    Args:
        environment: Ray's variables, of the server.
    """
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGHUP):  # they reach the group; the server decides
        signal.signal(number, signal.SIG_IGN)
    inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
    unwanted: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox, unwanted), daemon=True).start()
    cluster = cluster_of(settings)
    try:
        join(cluster)
        watch(cluster, lambda: os._exit(GONE))
        stand_in = _StandIn(
            settings, hire(UnitActor, settings, torch.get_num_threads(), device=settings.device)
        )
    except ClusterError as error:
        sys.stderr.write(f"deconvnet: {error}\n")
        os._exit(REFUSED)
    threading.Thread(target=stand_in.pass_on, args=(unwanted,), daemon=True).start()
    connection.send(None)  # ready
    while True:
        try:
            stand_in.perform(inbox.get(), connection.send)
        except lost_actor():
            os._exit(GONE if gone(cluster) else DIED)


class _StandIn:
    """Gives an actor its orders, and keeps what comes back."""

    def __init__(self, settings: Settings, actor: Any) -> None:
        self._settings, self._actor = settings, actor
        self._artifacts = ArtifactStore(settings.data_dir / "artifacts")
        self._inputs = StoredInputs(settings, self._artifacts)

    def perform(self, order: Order, send: Callable[[Outcome], object]) -> None:
        """Have a unit computed, and send on what is told of it."""
        ticket, spec, partials = order
        try:
            images = {image: self._inputs.read(spec, image) for image in spec.inputs}
            network = fingerprint(model_source(self._settings, spec.model))
        except ArtifactMissingError as error:
            send(Outcome(ticket, UnitError("input_missing", str(error), 404)))
            return
        except Refusal as error:
            send(Outcome(ticket, UnitError(error.code, error.detail, error.status, fatal=True)))
            return
        except UnitError as error:
            send(Outcome(ticket, error))
            return
        self._actor.order.remote(ticket, spec, partials, network, images)
        while True:
            outcome, files = ask(self._actor.news)
            outcome = self._kept(outcome, files)
            send(outcome)
            if not isinstance(outcome.value, Progress):
                return

    def _kept(self, outcome: Outcome, files: Files) -> Outcome:
        """Store the files of a result, or of a partial one, here."""
        value = outcome.value
        result = value.partial if isinstance(value, Progress) else value
        if not isinstance(result, UnitResult):
            return outcome
        before = self._artifacts.written
        try:
            self._artifacts.put_all(files)
        except StorageFullError as error:
            return Outcome(outcome.ticket, UnitError("storage_full", str(error), 507))
        stored = result.model_copy(update={"stored_bytes": self._artifacts.written - before})
        if isinstance(value, Progress):
            return replace(outcome, value=replace(value, partial=stored))
        return replace(outcome, value=stored)

    def pass_on(self, unwanted: "queue.SimpleQueue[int]") -> None:
        """Tell the actor which units nobody wants any more."""
        while True:
            self._actor.stop.remote(unwanted.get())


def _receive(
    connection: Connection, inbox: "queue.SimpleQueue[Order]", unwanted: "queue.SimpleQueue[int]"
) -> None:
    while True:
        try:
            said: Order | int = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(said, int):
            unwanted.put(said)
        else:
            inbox.put(said)
