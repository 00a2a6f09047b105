"""Landmarks: the layers that a network is browsed by, "conv1" … to the names of call sites."""

from collections.abc import Mapping, Sequence
from typing import Any

from deconvnet.address import spells_layer
from deconvnet.errors import AddressError, ParameterError, nearest
from deconvnet.geometry.region import INPUT
from deconvnet.graph.nodes import Node


def landmarks_of(nodes: Sequence[Node], given: Any, name: str) -> dict[str, str]:
    """The given landmarks, checked; the default ones for None.

    Args:
        name: the network's, for messages.

    Raises:
        ParameterError: they are no mapping. AddressError: one cannot be spelled, or is no call
            site; with the nearest ones.
    """
    if not isinstance(given, Mapping | None):
        raise ParameterError(
            f"landmarks are {given!r:.80}, expected names for call sites, "
            '{"conv1": "features.1", …}.'
        )
    found = dict(given) if given else _stages(nodes)
    sites = [node.name for node in nodes[INPUT + 1 :]]
    for landmark, site in found.items():
        if not spells_layer(landmark):
            raise AddressError(
                f"A landmark is named {landmark!r:.80}, expected a text without spaces and @."
            )
        if site not in sites:
            raise AddressError(
                f"Landmark '{landmark}' is {site!r}, which is not a call site of {name}; "
                f"{nearest(str(site), sites)}."
            )
    return found


def _stages(nodes: Sequence[Node]) -> dict[str, str]:
    """Landmarks for a network that names none: the last nonlinearity at each size of the map.

    Gates, whose maps have one cell or are only multiplied with others, are none. Of more than
    five the last five; of fewer, ones evenly spread over the depth.
    """
    gates = _gates(nodes)
    place = {node.name: rank for rank, node in enumerate(nodes)}
    maps = [
        node for node in nodes[1:]
        if node.op is not None and node.op.nonlinear and len(node.shape) == 3
    ]  # fmt: skip
    found = [n for n in maps if n.shape[1:] != (1, 1) and n.name not in gates] or maps
    by_size = {node.shape[1:]: node.name for node in found}
    last = sorted(by_size.values(), key=place.__getitem__)[-5:]
    if len(last) < 5 <= len(found) or len(last) < len(found) <= 5:
        count = min(5, len(found))
        picks = sorted({round((i + 1) * len(found) / count) - 1 for i in range(count)})
        last = [found[i].name for i in picks]
    return {f"conv{i + 1}": name for i, name in enumerate(last)}


def _gates(nodes: Sequence[Node]) -> set[str]:
    """Call sites that are read by products alone, expanded or as they are."""
    others, multiplied = set[int](), set[int]()
    for node in nodes[1:]:
        factor = node.op is not None and node.op.multiplies
        (multiplied if factor else others).update(node.inputs)
    return {nodes[place].name for place in multiplied - others}
