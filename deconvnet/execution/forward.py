"""Running the graph upwards: logits, the maps of asked layers, or a record to project from."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.errors import InputError
from deconvnet.execution.executor import Compute, Step, alone, execute, joined, steps_to
from deconvnet.execution.free_memory import give_back
from deconvnet.execution.patches import cut, moved
from deconvnet.geometry.boxes import NodeBoxes
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.graph.network import Network
from deconvnet.graph.nodes import Node
from deconvnet.ops.base import BackwardRule, Norm, Rule


def checked(net: Network, x: Tensor) -> Tensor:
    """`Network.checked`, for what callers take for a network.

    Raises:
        InputError: it is none, or cannot take x. GraphError: its parameters have moved.
    """
    if not isinstance(net, Network):
        raise InputError(
            f"The network is a {type(net).__name__}, expected a dn.Network; dn.trace(module, "
            "input_size) makes one of a torch.nn.Module."
        )
    return net.checked(x)


def check_input(net: Network, x: Tensor) -> Tensor:
    """`checked`, in the layout that suits the network: the whole batch is read and written."""
    return checked(net, x).contiguous(memory_format=torch.channels_last)


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


def _whole(nodes: Sequence[Node], given: Tensor) -> Compute:
    """Whole maps, overwriting what nothing else needs, but not the caller's tensor."""

    def compute(step: Step, values: Mapping[int, Tensor], spent: bool) -> Tensor:
        inputs = [values[below] for below in step.reads]
        op = nodes[step.place].op
        assert op is not None
        if step.joined is not None:
            return step.joined(*inputs)
        if spent and alone(inputs[0], step.reads[0], values, given):
            return op.forward_over(inputs[0])
        return op.forward(*inputs)

    return compute


def _recorded(nodes: Sequence[Node], backward: BackwardRule, kept: dict[int, Tensor]) -> Compute:
    """Whole maps, with what going down needs of each node put into `kept`."""

    def compute(step: Step, values: Mapping[int, Tensor], spent: bool) -> Tensor:
        del spent
        inputs = [values[below] for below in step.reads]
        op = nodes[step.place].op
        assert op is not None
        if step.joined is not None:
            return step.joined(*inputs)
        value, saved = op.record(backward, *inputs)
        if saved is not None:
            kept[step.place] = saved
        return value

    return compute


def _recorded_on(
    nodes: Sequence[Node], boxes: NodeBoxes, backward: BackwardRule, kept: dict[int, Tensor]
) -> Compute:
    """Parts of maps, each node's on its boxes, with what going down needs put into `kept`."""

    def compute(step: Step, values: Mapping[int, Tensor], spent: bool) -> Tensor:
        del spent
        place, reads = step.place, step.reads
        op, own = nodes[place].op, boxes[place]
        assert op is not None
        inputs = [values[i] for i in reads]
        if op.window is None or all(
            boxes[i].is_whole(map_size(nodes[i].shape)) for i in (place, *reads)
        ):
            value, saved = op.record(backward, *inputs)
        else:
            seen = own.pull(op.window)
            parts = [
                moved(x, boxes[i], seen, op.pad_value) for i, x in zip(reads, inputs, strict=True)
            ]
            constant = op.constant
            if constant is not None:
                constant = cut(constant.to(parts[0]), [0] * len(parts[0]), own)
            value, saved = op.record_patch(backward, *parts, constant=constant)
        if saved is not None:
            kept[place] = saved
        return value

    return compute


def _steps(net: Network, places: Collection[int]) -> list[Step]:
    return steps_to(net.nodes, places, net.planned(joined))


@torch.no_grad()
def run(net: Network, x: Tensor) -> Tensor:
    """The network's output for a batch: [n, 3, h, w] → [n, classes]."""
    last = net.nodes[-1].name
    return capture(net, x, [last])[last]


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
    asked = places.values()
    start = {INPUT: check_input(net, x)}
    values = execute(_steps(net, asked), start, _whole(net.nodes, x), keep=asked)
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
        for layer in named.get(place, ()):
            see(layer, maps)

    start = {INPUT: check_input(net, x)}
    execute(_steps(net, named), start, _whole(net.nodes, x), show=show)


@torch.no_grad()
def whole_maps(
    nodes: Sequence[Node], order: Sequence[int], values: dict[int, Tensor]
) -> dict[int, Tensor]:
    """The values of nodes from those given, all of them kept; each by its own op.

    Args:
        order: the nodes to compute, in order of execution.
    """

    def compute(step: Step, values: Mapping[int, Tensor], spent: bool) -> Tensor:
        del spent
        op = nodes[step.place].op
        assert op is not None
        return op.forward(*(values[below] for below in step.reads))

    steps = [Step(place, nodes[place].inputs) for place in order]
    return execute(steps, values, compute, keep=range(len(nodes)))


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
    x, asked, kept = check_input(net, x), places.values(), dict[int, Tensor]()
    compute = _recorded(net.nodes, backward, kept)
    values = execute(_steps(net, asked), {INPUT: x}, compute, keep=asked)
    activations = {layer: values[place] for layer, place in places.items()}
    return Record(x, activations, kept, backward)


def stack(net: Network, pictures: Sequence[Tensor | None], size: int) -> Tensor:
    """A batch of exactly `size` for the network; places without a picture are black.

    Args:
        pictures: uint8 [3, h, w] each, of the input's size.
    """
    channels, height, width = net.input_size
    on_gpu = net.device.type == "cuda"
    batch = torch.zeros(size, height, width, channels, dtype=torch.uint8, pin_memory=on_gpu)
    for place, picture in enumerate(pictures):
        if picture is not None:
            batch[place] = picture.permute(1, 2, 0)
    moved = batch.to(net.device, non_blocking=True).permute(0, 3, 1, 2)
    return net.preprocess.normalise(moved)


@dataclass(frozen=True)
class LocalRecord:
    """What one local pass keeps: the activations, [n, c, 1, 1], and per node on its box."""

    top: Tensor
    kept: dict[int, Tensor]


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
    steps = [Step(above, net.nodes[above].inputs) for above in sorted(boxes) if above != INPUT]
    start = {INPUT: cut(x, rows, boxes[INPUT]).expand(len(rows), -1, -1, -1)}
    kept: dict[int, Tensor] = {}
    values = execute(steps, start, _recorded_on(net.nodes, boxes, backward, kept), keep=(place,))
    return LocalRecord(values[place], kept)
