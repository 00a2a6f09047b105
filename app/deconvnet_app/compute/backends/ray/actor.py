"""What runs on a cluster's machine: a worker whose images and results travel with its orders.

Ray makes an actor of it. It shares no file with the server; networks are found on its own machine,
and must have the fingerprints that the server knows.
"""

import platform
import queue
import threading
from collections.abc import Mapping

import torch

from deconvnet_app.artifacts import sha256
from deconvnet_app.catalog.models import fingerprint, model_source
from deconvnet_app.compute.backends.base import Outcome
from deconvnet_app.compute.backends.ray.start import Actor
from deconvnet_app.compute.resources import Resources
from deconvnet_app.compute.run import run_unit
from deconvnet_app.compute.spec import Lost, UnitError, UnitResult, UnitSpec
from deconvnet_app.errors import Refusal
from deconvnet_app.settings import Settings

Files = dict[str, bytes]  # by the hashes of their contents
News = tuple[Outcome, Files]  # files by the names that the outcome gives


class _Carried:
    """Takes results' files, to be sent on; gives the images that came with the order."""

    written = 0

    def __init__(self) -> None:
        self.files: Files = {}
        self.images: Files = {}

    def put_all(self, files: Mapping[str, bytes]) -> dict[str, str]:
        names = {name: sha256(data) for name, data in files.items()}
        self.files.update((names[name], data) for name, data in files.items())
        return names

    def read(self, spec: UnitSpec, image: str) -> bytes:
        del spec
        return self.images[image]


class UnitActor(Actor):
    """Runs one unit at a time in a thread of its own, so that its other methods answer meanwhile.

    Args:
        settings: of the server; only what concerns networks and images is looked at.
        threads: torch's, as many as the server would take: results depend on them.
    """

    def __init__(self, settings: Settings, threads: int) -> None:
        self._settings, self._threads = settings, threads
        self._carried = _Carried()
        self._resources = Resources(settings, self._carried, self._carried)
        self._orders: queue.SimpleQueue[tuple[int, UnitSpec, bool, str, Files]] = (
            queue.SimpleQueue()
        )
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._unwanted: set[int] = set()
        threading.Thread(target=self._work, daemon=True).start()

    def order(
        self, ticket: int, spec: UnitSpec, partials: bool, network: str, images: Files
    ) -> None:
        """Begin a unit; `network` is the fingerprint that its network must have here."""
        self._orders.put((ticket, spec, partials, network, images))

    def news(self) -> News:
        """The next thing to tell of a unit, waiting for it."""
        return self._news.get()

    def stop(self, ticket: int) -> None:
        """Let a unit end at its next step."""
        self._unwanted.add(ticket)

    def _work(self) -> None:
        torch.set_num_threads(self._threads)  # of this thread
        while True:
            ticket, spec, partials, network, self._carried.images = self._orders.get()
            value = self._differs(spec, network) or self._computed(ticket, spec, partials)
            self._tell(Outcome(ticket, value))
            self._unwanted.discard(ticket)

    def _computed(
        self, ticket: int, spec: UnitSpec, partials: bool
    ) -> UnitResult | UnitError | Lost:
        return run_unit(
            spec,
            self._resources,
            lambda said: self._tell(Outcome(ticket, said)),
            unwanted=lambda: ticket in self._unwanted,
            partials=partials,
        )

    def _tell(self, outcome: Outcome) -> None:
        files, self._carried.files = self._carried.files, {}
        self._news.put((outcome, files))

    def _differs(self, spec: UnitSpec, network: str) -> UnitError | None:
        try:
            found = fingerprint(model_source(self._settings, spec.model))
        except Refusal as error:
            return UnitError(error.code, error.detail, error.status, fatal=True)
        if found == network:
            return None
        detail = (
            f"Model '{spec.model}' on {platform.node()} is not the server's: its file or weights "
            "are missing there or differ. Put the same files at the same places on every machine."
        )
        return UnitError("model_differs", detail, 503, fatal=True)
