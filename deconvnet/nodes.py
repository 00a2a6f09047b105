"""What a network is to the engine: its steps in order of execution, as data.

A list of nodes begins with the input and ends with the output; a node reads nodes before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from deconvnet.geometry.region import INPUT, Window
from deconvnet.ops.base import Op


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
