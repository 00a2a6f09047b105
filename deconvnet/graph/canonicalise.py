"""Stretches of a network that are written with channels last or in groups, as maps.

ConvNeXt puts the channels last for its normalisation and its fully connected layers, and first
again; ShuffleNet takes channels in groups, exchanges those, and puts them together. Both are ways
to write: an op on [n, h, w, c] is another on [n, c, h, w], and a shuffle is an order of channels.
Written so, every op has a window. A reshape that is taken back at once is none. The call sites keep
their names and places.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from deconvnet.errors import UnknownOpError
from deconvnet.graph.nodes import Node
from deconvnet.ops.base import Op
from deconvnet.ops.channels import ChannelsLast, Permute, shuffled
from deconvnet.ops.shape import Identity, Reshape

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def as_maps(nodes: Sequence[Node]) -> list[Node]:
    """The same network without permutations.

    Raises:
        UnknownOpError: one is there for another purpose.
    """
    return _channels_first(_undone(_shuffles(nodes)))


def _undone(nodes: Sequence[Node]) -> list[Node]:
    """A reshape of what another one has just made, back to what that was, and nothing between."""
    found = list(nodes)
    uses = Counter(below for node in nodes for below in node.inputs)
    for place, node in enumerate(nodes):
        below = node.inputs[0] if node.inputs else place
        both = isinstance(node.op, Reshape) and isinstance(found[below].op, Reshape)
        if both and uses[below] == 1 and found[found[below].inputs[0]].shape == node.shape:
            found[below] = replace(found[below], op=Identity(), shape=node.shape)
            found[place] = replace(node, op=Identity())
    return found


def _shuffles(nodes: Sequence[Node]) -> list[Node]:
    found = list(nodes)
    uses = Counter(below for node in nodes for below in node.inputs)
    for place, node in enumerate(nodes):
        way = _grouping(nodes, uses, place)
        grouped, exchanged = (
            next((i for i in way if isinstance(nodes[i].op, kind)), None)
            for kind in (Reshape, Permute)
        )
        if grouped is None or exchanged is None:
            continue
        source, permute = nodes[nodes[grouped].inputs[0]].shape, nodes[exchanged].op
        assert isinstance(permute, Permute)
        shuffle = shuffled(source, nodes[grouped].shape, permute.order)
        if shuffle is None or node.shape != source:
            continue
        for below in way:
            found[below] = replace(nodes[below], op=Identity(), shape=source)
        found[place] = replace(node, op=shuffle)
    return found


def _grouping(nodes: Sequence[Node], uses: Mapping[int, int], place: int) -> list[int]:
    """Down from a reshape, the places to the next one; what else reads any of them ends the way."""
    found: list[int] = []
    if not isinstance(nodes[place].op, Reshape):
        return found
    while uses[place := nodes[place].inputs[0]] == 1:
        if not isinstance(nodes[place].op, Identity | Permute | Reshape):
            break
        found.append(place)
        if isinstance(nodes[place].op, Reshape):
            break
    return found


def _channels_first(nodes: Sequence[Node]) -> list[Node]:
    found, last = list(nodes), set[int]()  # those whose channels are last
    for place, node in enumerate(nodes):
        op, below = node.op, {i in last for i in node.inputs}
        if below == {True} and isinstance(op, Permute) and op.order == _TO_FIRST:
            found[place] = replace(node, op=Identity())
        elif True in below or (len(node.shape) > 2 and isinstance(op, Permute | ChannelsLast)):
            first = _first(op) if below == {not isinstance(op, Permute)} else None
            if first is None or place == len(nodes) - 1:
                raise UnknownOpError(_unknown(node))
            height, width, channels = node.shape
            found[place] = replace(node, op=first, shape=(channels, height, width))
            last.add(place)
    return found


def _first(op: Op | None) -> Op | None:
    """What an op is on maps with channels first; the permutation that puts them last is nothing."""
    if isinstance(op, Permute):
        return Identity() if op.order == _TO_LAST else None
    return None if op is None else op.channels_first()


def _unknown(node: Node) -> str:
    assert node.op is not None
    return (
        f"At '{node.name}': {node.op.kind} of maps whose channels are not dimension 1 is unknown; "
        "expected them put last, for LayerNorm, fully connected layers and what works value by "
        "value, and first again, or exchanged in groups; before a classifier, flatten first."
    )
