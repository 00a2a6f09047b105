"""By which rules a layer's activations go down: those of every op between it and the pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deconvnet.errors import ProjectionError
from deconvnet.ops.base import RULES, Rule

if TYPE_CHECKING:
    from deconvnet.network import Network

Rules = tuple[Rule, ...]


def rules(net: "Network") -> list[Rules]:
    """For each node, the rules by which its activations can be projected; none from a softmax."""
    if "ways" not in net.cache:
        found: list[Rules] = []
        for node in net.nodes:
            own = RULES if node.op is None else node.op.rules
            found.append(tuple(r for r in own if all(r in found[i] for i in node.inputs)))
        net.cache["ways"] = found
    ways: list[Rules] = net.cache["ways"]
    return ways


def require(net: "Network", layer: str, rule: Rule) -> None:
    """Refuse a way down on which an op has no such rule.

    Raises:
        AddressError: no such layer. ProjectionError: with the op, and what can be done.
    """
    place, ways = net.find(layer), rules(net)
    if rule in ways[place]:
        return
    known = ways[place]
    while lower := [i for i in net.nodes[place].inputs if rule not in ways[i]]:
        place = lower[0]
    node = net.nodes[place]
    assert node.op is not None
    raise ProjectionError(
        f"{unknown_way(layer, rule, known)} The first step without it is '{node.name}' "
        f"({node.op.kind})."
    )


def unknown_way(layer: str, rule: str, known: Sequence[str]) -> str:
    """What to say of a layer without a rule."""
    other = f"Take {' or '.join(known)}, or project" if known else "Project"
    return f"Layer '{layer}' has no way down by the rule '{rule}'. {other} from a layer before it."
