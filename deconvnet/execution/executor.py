"""The order in which nodes are computed, and what may be overwritten on the way."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from deconvnet.geometry.region import INPUT
from deconvnet.graph.network import Network


class _Step(NamedTuple):
    """A node's value from those of `inputs`: by its op, or joined with the op below it."""

    place: int
    inputs: tuple[int, ...]
    joined: Callable[[Tensor], Tensor] | None = None


def _joined(net: Network) -> Mapping[int, _Step]:
    """The nodes that are taken in one step with the only node that they read."""
    if "joined" not in net.cache:
        uses = Counter(below for node in net.nodes for below in node.inputs)
        found = {}
        for place, node in enumerate(net.nodes):
            below = net.nodes[node.inputs[0]] if len(node.inputs) == 1 else None
            if below is None or below.op is None or uses[node.inputs[0]] > 1:
                continue
            assert node.op is not None
            if (joined := node.op.joined(below.op)) is not None:
                found[place] = _Step(place, below.inputs, joined)
        net.cache["joined"] = found
    steps: Mapping[int, _Step] = net.cache["joined"]
    return steps


def _steps(net: Network, places: Sequence[int]) -> list[_Step]:
    """The way up to some nodes. A node is taken in the same way, whatever else is asked for."""
    joined, wanted, found = _joined(net), set(places), []
    for place in range(max(places), INPUT, -1):
        if place in wanted:
            found.append(joined.get(place, _Step(place, net.nodes[place].inputs)))
            wanted.update(found[-1].inputs)
    return found[::-1]


def needed(net: Network, places: Sequence[int]) -> list[int]:
    """The nodes that the given ones depend on, in order, the input left out."""
    wanted = set(places)
    for place in range(max(places), INPUT, -1):
        if place in wanted:
            wanted.update(net.nodes[place].inputs)
    return sorted(wanted - {INPUT})


def alone(x: Tensor, place: int, values: Mapping[int, Tensor], *others: Tensor) -> bool:
    """Whether no value of another place, nor any of the `others`, lies in the memory of `x`."""
    own = x.untyped_storage().data_ptr()
    kept = (value for other, value in values.items() if other != place)
    return all(t.untyped_storage().data_ptr() != own for t in (*others, *kept))
