"""The executor: nodes in order, each value dropped once nothing reads it any more.

A pass up is `execute` with a callback per node: the plain pass, the one that records, the one on
crops, and the one that recomputes only what has changed. A pass down is `descend`. What they keep
besides lies with the callback.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deconvnet.geometry.region import INPUT
from deconvnet.graph.nodes import Node


class Step(NamedTuple):
    """A node's value from those that it reads: by its op, or joined with the op below it."""

    place: int
    reads: tuple[int, ...]
    joined: Callable[[Tensor], Tensor] | None = None


Values = dict[int, Tensor]
Compute = Callable[[Step, Mapping[int, Tensor], bool], Tensor]


@torch.no_grad()
def execute(
    steps: Iterable[Step],
    values: Values,
    compute: Compute,
    keep: Collection[int] = (),
    show: Callable[[int, Tensor], None] | None = None,
) -> Values:
    """Compute nodes from `values`, which is returned with what is kept in the end.

    Args:
        steps: in order of execution.
        values: by place; those of the nodes that the first steps read.
        compute: is given a step, the values, and True where the only value that it reads is read
            for the last time and not kept, so that it may be overwritten.
        keep: places whose values stay.
        show: is given each place and its value as soon as there is one.
    """
    steps = list(steps)
    uses = Counter(below for step in steps for below in step.reads)
    for step in steps:
        only = step.reads[0]
        spent = len(step.reads) == 1 == uses[only] and only not in keep
        values[step.place] = compute(step, values, spent)
        if show is not None:
            show(step.place, values[step.place])
        for below in step.reads:
            uses[below] -= 1
            if uses[below] == 0 and below not in keep:
                values.pop(below, None)
    return values


@torch.no_grad()
def descend(
    nodes: Sequence[Node],
    values: Values,
    compute: Callable[[int, Tensor], Sequence[Tensor]],
    receive: Callable[[int, int, Tensor, Tensor | None], Tensor],
    stop: int = INPUT,
) -> Tensor:
    """Take values down to the node `stop`; what has come to it.

    A value is complete when its place is reached: all nodes above have given their part.

    Args:
        values: by place; they are used up.
        compute: is given a place and its value; the part for each node that it reads.
        receive: is given the place above, the place below, the part, and what has come there so far
            (or None); what there is now.
    """
    for above in range(max(values), stop, -1):
        if above in values:
            parts = compute(above, values.pop(above))
            for below, part in zip(nodes[above].inputs, parts, strict=True):
                values[below] = receive(above, below, part, values.get(below))
    return values[stop]


def joined(nodes: Sequence[Node]) -> Mapping[int, Step]:
    """The nodes that are taken in one step with the only node that they read."""
    uses = Counter(below for node in nodes for below in node.inputs)
    found = {}
    for place, node in enumerate(nodes):
        below = nodes[node.inputs[0]] if len(node.inputs) == 1 else None
        if below is None or below.op is None or uses[node.inputs[0]] > 1:
            continue
        assert node.op is not None
        if (step := node.op.joined(below.op)) is not None:
            found[place] = Step(place, below.inputs, step)
    return found


def steps_to(
    nodes: Sequence[Node], places: Collection[int], joined: Mapping[int, Step]
) -> list[Step]:
    """The way up to some nodes. A node is taken in the same way, whatever else is asked for.

    Args:
        joined: the nodes to take in one step with the one below, if any.
    """
    wanted, found = set(places), []
    for place in range(max(places), INPUT, -1):
        if place in wanted:
            found.append(joined.get(place, Step(place, nodes[place].inputs)))
            wanted.update(found[-1].reads)
    return found[::-1]


def needed(nodes: Sequence[Node], places: Collection[int]) -> list[int]:
    """The nodes that the given ones depend on, in order, the input left out."""
    return [step.place for step in steps_to(nodes, places, {})]


def alone(x: Tensor, place: int, values: Mapping[int, Tensor], *others: Tensor) -> bool:
    """True if no value of another place, nor any of the `others`, lies in the memory of `x`."""
    own = x.untyped_storage().data_ptr()
    kept = (value for other, value in values.items() if other != place)
    return all(t.untyped_storage().data_ptr() != own for t in (*others, *kept))
