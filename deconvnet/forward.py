"""Running the graph upwards: logits, the maps of asked layers, or a record to project from."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deconvnet.geometry.region import INPUT
from deconvnet.graph.batch import check_input
from deconvnet.graph.network import Network
from deconvnet.ops.base import BackwardRule, Norm, Rule
from deconvnet.room import give_back


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


@dataclass(frozen=True)
class Record:
    """A forward pass of a batch, with what going down needs.

    Attributes:
        x: the batch, [n, c, h, w].
        activations: layer name → its map, [n, c, h, w] or [n, features].
        kept: node → switches (uint8) or gates, on the map of its output; batch 1 where constant.
        way: the rule that the record serves.
    """

    x: Tensor
    activations: dict[str, Tensor]
    kept: dict[int, Tensor]
    backward: BackwardRule


def alone(x: Tensor, place: int, values: Mapping[int, Tensor], *others: Tensor) -> bool:
    """Whether no value of another place, nor any of the `others`, lies in the memory of `x`."""
    own = x.untyped_storage().data_ptr()
    kept = (value for other, value in values.items() if other != place)
    return all(t.untyped_storage().data_ptr() != own for t in (*others, *kept))


def _walk(
    net: Network,
    x: Tensor,
    places: Sequence[int],
    backward: BackwardRule | None,
    see: Callable[[int, Tensor], None] | None = None,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The values of `places`, and what was recorded; with `see`, it is shown them, none is kept."""
    given, x = x, check_input(net, x)
    steps = _steps(net, places)
    uses = Counter(below for step in steps for below in step.inputs)
    values: dict[int, Tensor] = {INPUT: x}
    kept: dict[int, Tensor] = {}
    asked = set(places) if see is None else set()
    for place, below_it, joined in steps:
        op = net.nodes[place].op
        assert op is not None
        inputs = [values[below] for below in below_it]
        if joined is not None:
            values[place] = joined(*inputs)
        elif backward is None:
            spent = uses[below_it[0]] == len(inputs) == 1 and below_it[0] not in asked
            if spent and alone(inputs[0], below_it[0], values, given):
                values[place] = op.forward_over(inputs[0])
            else:
                values[place] = op.forward(*inputs)
        else:
            values[place], saved = op.record(backward, *inputs)
            if saved is not None:
                kept[place] = saved
        if see is not None and place in places:
            see(place, values[place])
        del inputs
        for below in below_it:
            uses[below] -= 1
            if uses[below] == 0 and below not in asked:
                values.pop(below, None)
    return values, kept


@torch.no_grad()
def run(net: Network, x: Tensor) -> Tensor:
    """The network's output for a batch: [n, 3, h, w] → [n, classes]."""
    last = len(net.nodes) - 1
    return _walk(net, x, [last], None)[0][last]


@torch.no_grad()
def capture(net: Network, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The maps of the asked layers in one pass, which stops at the deepest.

    Args:
        x: [n, c, h, w].
        layers: landmarks or call sites.

    Returns:
        layer → [n, c, h, w] or [n, features].

    Raises:
        AddressError: no such layer. InputError: another shape, or NaN.
    """
    places = {layer: net.find(layer) for layer in layers}
    values, _ = _walk(net, x, list(places.values()), None)
    return {layer: values[place] for layer, place in places.items()}


@torch.no_grad()
def visit(
    net: Network, x: Tensor, layers: Sequence[str], see: Callable[[str, Tensor], None]
) -> None:
    """`capture` that shows each layer's maps as soon as they are there, and keeps none.

    Args:
        see: is given a layer and its maps, which are overwritten afterwards.
    """
    named: dict[int, list[str]] = {}
    for layer in layers:
        named.setdefault(net.find(layer), []).append(layer)

    def show(place: int, maps: Tensor) -> None:
        for layer in named[place]:
            see(layer, maps)

    _walk(net, x, list(named), None, show)


@torch.no_grad()
def prepare(net: Network, layers: Sequence[str]) -> None:
    """Compute what passes up to some layers take from the weights alone.

    A first pass does it by itself. Done before, it lies below the maps in memory: what is freed
    around it then goes back to the system.
    """
    black = torch.zeros(1, *net.input_size, dtype=net.dtype, device=net.device)
    visit(net, black, layers, lambda _layer, _maps: None)
    give_back()


@torch.no_grad()
def record(
    net: Network, x: Tensor, layers: Sequence[str], rule: Rule = "deconv", lrn: Norm = "identity"
) -> Record:
    """A pass up to the deepest asked layer that keeps switches, and gates where the rule asks.

    Args:
        x: [n, c, h, w].
        rule: "deconv", "guided" or "gradient".
        lrn: "identity" or "gradient"; see `BackwardRule`.

    Raises:
        ProjectionError: a layer has no way down by that rule.
    """
    backward = BackwardRule(rule, lrn)
    for layer in layers:
        net.require_rule(layer, rule)
    places = {layer: net.find(layer) for layer in layers}
    values, kept = _walk(net, x, list(places.values()), backward)
    activations = {layer: values[place] for layer, place in places.items()}
    return Record(check_input(net, x), activations, kept, backward)
