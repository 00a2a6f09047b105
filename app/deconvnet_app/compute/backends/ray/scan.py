"""Parts of a dataset scanned by actors of a Ray cluster, for `deconvnet.index.shards`."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import deconvnet as dn
from deconvnet.data.dataset import Dataset
from deconvnet.index.scan import ScanPlan
from deconvnet.index.shards import Runner, scan_part
from deconvnet_app.compute.backends.ray.cluster import Cluster, check, join
from deconvnet_app.compute.backends.ray.start import Actor, hire
from deconvnet_app.errors import ClusterError

_AHEAD = 2  # parts that each actor has
_TRIES = 3


class PartScanner(Actor):
    """Scans parts with a network that it loads once, in as many torch threads as the driver has."""

    def __init__(self, net: str, weights: str | None, device: str | None, threads: int) -> None:
        self._net = dn.load(net, weights=weights, device=device)
        self._threads = threads

    def scan(self, part: Dataset, plan: ScanPlan) -> bytes:
        """`scan_part`."""
        torch.set_num_threads(self._threads)  # of this thread: results depend on their number
        return scan_part(self._net, part, plan)


@dataclass
class _Given:
    part: Dataset
    seat: int
    actor: Any
    answer: Any


def on_cluster(
    cluster: Cluster, net: str, weights: str | None, device: str | None, actors: int
) -> Runner:
    """A runner that scans parts on a cluster that is running.

    Args:
        net, weights: as of `deconvnet.load`; files must lie at the same place on each machine.
        actors: how many.

    Raises:
        ClusterError: the cluster is not there, or lets in whoever comes.
    """
    check(cluster)
    file = str(Path(net).absolute()) if Path(net).suffix else net
    kept = str(Path(weights).absolute()) if weights and Path(weights).suffix else weights
    arguments = (file, kept, device, torch.get_num_threads())

    def run(plan: ScanPlan, parts: Iterator[Dataset]) -> Iterator[bytes]:
        join(cluster)
        seats = [hire(PartScanner, *arguments, device=device) for _ in range(actors)]
        given: deque[_Given] = deque()
        for number, part in enumerate(parts):
            seat = number % actors
            actor = seats[seat]
            given.append(_Given(part, seat, actor, actor.scan.remote(part, plan)))
            if len(given) >= _AHEAD * actors:
                yield taken(given.popleft(), seats, plan)
        while given:
            yield taken(given.popleft(), seats, plan)

    def taken(one: _Given, seats: list[Any], plan: ScanPlan) -> bytes:
        """The part's tables; an actor that has died is replaced, and the part given again."""
        import ray  # noqa: PLC0415 - an extra

        for _ in range(_TRIES):
            try:
                data: bytes = ray.get(one.answer)
                return data
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayActorError:
                # An actor takes its other parts along: the first of them has it replaced.
                if seats[one.seat] is one.actor:
                    seats[one.seat] = hire(PartScanner, *arguments, device=device)
                one.actor = seats[one.seat]
                one.answer = one.actor.scan.remote(one.part, plan)
        raise ClusterError(
            f"{_TRIES} actors died of the images from '{one.part.entries[0].path}' to "
            f"'{one.part.entries[-1].path}'. Take out what is wrong with them, and go on."
        )

    return run
