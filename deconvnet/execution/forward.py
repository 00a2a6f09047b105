"""Running the graph upwards: logits, the maps of asked layers, or a record to project from."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.data.decode import DecodedImage
from deconvnet.execution.executor import _steps, alone
from deconvnet.execution.free_memory import give_back
from deconvnet.execution.patches import cut, moved
from deconvnet.geometry.boxes import NodeBoxes
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.graph.batch import check_input
from deconvnet.graph.network import Network
from deconvnet.ops.base import BackwardRule, Norm, Rule


@dataclass(frozen=True)
class Record:
    """A forward pass of a batch, with what going down needs.

    Attributes:
        x: the batch, [n, c, h, w].
        activations: layer name → its map, [n, c, h, w] or [n, features].
        kept: node → switches (uint8) or gates, on the map of its output; batch 1 where constant.
        backward: the rule that the record serves.
    """

    x: Tensor
    activations: dict[str, Tensor]
    kept: dict[int, Tensor]
    backward: BackwardRule


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


def stack(net: Network, pictures: Sequence[DecodedImage], size: int) -> Tensor:
    """A batch of exactly `size` for the network; places without a picture are black."""
    channels, height, width = net.input_size
    on_gpu = net.device.type == "cuda"
    batch = torch.zeros(size, height, width, channels, dtype=torch.uint8, pin_memory=on_gpu)
    for place, picture in enumerate(pictures):
        if picture.pixels is not None:
            batch[place] = picture.pixels.permute(1, 2, 0)
    moved = batch.to(net.device, non_blocking=True).permute(0, 3, 1, 2)
    return net.preprocess.normalise(moved)


@dataclass(frozen=True)
class LocalRecord:
    """What one local pass keeps: the activations, [n, c, 1, 1], and per node on its box."""

    top: Tensor
    kept: dict[int, Tensor]


def _step(
    net: Network, boxes: NodeBoxes, backward: BackwardRule, place: int, values: dict[int, Tensor]
) -> tuple[Tensor, Tensor | None]:
    node, own = net.nodes[place], boxes[place]
    op = node.op
    assert op is not None
    below = node.inputs
    if op.window is None or all(
        boxes[i].is_whole(map_size(net.nodes[i].shape)) for i in (place, *below)
    ):
        return op.record(backward, *(values[i] for i in below))
    seen = own.pull(op.window)
    parts = [moved(values[i], boxes[i], seen, op.pad_value) for i in below]
    constant = op.constant
    if constant is not None:
        constant = cut(constant.to(parts[0]), [0] * len(parts[0]), own)
    return op.record_patch(backward, *parts, constant=constant)


@torch.no_grad()
def record_local(
    net: Network,
    x: Tensor,
    place: int,
    boxes: NodeBoxes,
    backward: BackwardRule,
    rows: Sequence[int],
) -> LocalRecord:
    """The forward pass of what n activations of a node see.

    Args:
        x: [m, c, H, W]; rows index it, [n].
        boxes: what the activations need, down from `place`.
    """
    order = sorted(boxes)
    uses = Counter(below for above in order for below in net.nodes[above].inputs)
    values = {INPUT: cut(x, rows, boxes[INPUT]).expand(len(rows), -1, -1, -1)}
    kept: dict[int, Tensor] = {}
    for above in order[1:]:
        values[above], saved = _step(net, boxes, backward, above, values)
        if saved is not None:
            kept[above] = saved
        for below in net.nodes[above].inputs:
            uses[below] -= 1
            if uses[below] == 0:
                values.pop(below, None)
    return LocalRecord(values[place], kept)
