"""What a network is to the engine: its steps in order of execution, as data.

A list of nodes begins with the input and ends with the output; a node reads nodes before it.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deconvnet.geometry.region import INPUT, Window, map_size
from deconvnet.ops.base import RULES, Op, Rule


@dataclass(frozen=True, eq=False)
class Node:
    """One call site.

    Attributes:
        name: of the call site, see `graph`.
        op: None for the input.
        inputs: places of the nodes it reads.
        shape: of one image's output, (c, h, w) or (features,).
    """

    name: str
    op: Op | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def window(self) -> Window | None:
        """What an output sees of each input; None: everything, or the input itself."""
        return None if self.op is None else self.op.window


@dataclass(frozen=True)
class Graph:
    """A module as a graph.

    Attributes:
        module: an eval copy of it, which shares its parameters.
        nodes: in order of execution, the input first, the output last.
        read: the parameters and buffers that `forward` computes constants from; those constants
            are in the nodes.
    """

    module: nn.Module
    nodes: tuple[Node, ...]
    read: tuple[Tensor, ...]


def run(nodes: Sequence[Node], x: Tensor) -> Tensor:
    """The last node's value, plainly."""
    values = [x]
    for node in nodes[1:]:
        assert node.op is not None
        values.append(node.op.forward(*(values[i] for i in node.inputs)))
    return values[-1]


def prune(nodes: Sequence[Node], final: int) -> list[Node]:
    """Only what the output depends on, the output last."""
    needed = {INPUT, final}
    for place in range(final, 0, -1):
        if place in needed:
            needed.update(nodes[place].inputs)
    kept = [place for place in range(len(nodes)) if place in needed]
    new = {old: rank for rank, old in enumerate(kept)}
    return [
        Node(nodes[p].name, nodes[p].op, tuple(new[i] for i in nodes[p].inputs), nodes[p].shape)
        for p in kept
    ]


def on_vectors(nodes: Sequence[Node], order: Sequence[int]) -> list[int]:
    """The end of a pass that has no maps any more: the fully connected layers and their heads."""
    users: dict[int, list[int]] = {}
    for place in order:
        for below in nodes[place].inputs:
            users.setdefault(below, []).append(place)
    found: list[int] = []
    for place in reversed(order):
        shapes = [nodes[i].shape for i in (place, *nodes[place].inputs)]
        if all(len(s) == 1 for s in shapes) and set(users.get(place, [])) <= set(found):
            found.append(place)
    return found[::-1]


Rules = tuple[Rule, ...]


def rules(nodes: Sequence[Node]) -> list[Rules]:
    """For each node, the rules by which its activations can be projected; none from a softmax."""
    found: list[Rules] = []
    for node in nodes:
        own = RULES if node.op is None else node.op.rules
        found.append(tuple(r for r in own if all(r in found[i] for i in node.inputs)))
    return found


def without_rule(layer: str, rule: str, known: Sequence[str]) -> str:
    """The message for a layer that has no such rule, with those that it has."""
    other = f"Take {' or '.join(known)}, or project" if known else "Project"
    return f"Layer '{layer}' has no way down by the rule '{rule}'. {other} from a layer before it."


def like(module: nn.Module) -> Tensor:
    """A tensor of the device and precision that a module computes in: of parameters, of buffers."""
    numbers = (
        t for t in itertools.chain(module.parameters(), module.buffers()) if t.is_floating_point()
    )
    return next(numbers, torch.empty(0))


def multiply_adds(nodes: Sequence[Node], cells: Mapping[int, int]) -> int:
    """Products with weights of a pass up for one image.

    Args:
        cells: positions that are computed of each node's map, by the node's place.
    """
    ops = ((nodes[place].op, count) for place, count in cells.items())
    return sum(op.multiply_adds * count for op, count in ops if op is not None)


def map_cells(nodes: Sequence[Node], places: Iterable[int]) -> dict[int, int]:
    """Positions of whole maps, by place."""
    sizes = ((place, map_size(nodes[place].shape)) for place in places)
    return {place: height * width for place, (height, width) in sizes}
