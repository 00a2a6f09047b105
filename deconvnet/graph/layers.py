"""The layers of a network as users see them: name, shape, receptive field, rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from deconvnet.geometry.pull import reach
from deconvnet.graph.nodes import Node, rules


@dataclass(frozen=True)
class Layer:
    """What users see of a node; receptive field and jump in pixels, (y, x) alike unless unequal.

    `rules` are those by which its units can be projected.
    """

    name: str
    node: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: int
    jump: int
    landmark: bool
    rules: tuple[str, ...]


class LayerTable(Mapping[str, Layer]):
    """Landmarks first, then every call site, by name."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = {layer.name: layer for layer in reversed(layers)}
        self._order = list(dict.fromkeys(layer.name for layer in layers))

    def __getitem__(self, name: str) -> Layer:
        try:
            return self._layers[name]
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def __repr__(self) -> str:
        rows = [
            f"{layer.name:28} {layer.kind:28} {'×'.join(map(str, layer.shape)):>12} "
            f"field {layer.receptive_field:>4} jump {layer.jump:>3}"
            for layer in self.values()
        ]
        return "\n".join(rows)


def layer_table(nodes: Sequence[Node], landmarks: Sequence[tuple[str, str]]) -> LayerTable:
    """The table of a network, whose landmarks are pairs of a name and a call site."""
    called = {site: landmark for landmark, site in landmarks}
    known = rules(nodes)
    place = {node.name: rank for rank, node in enumerate(nodes)}
    rows = []
    for name in (*(site for _, site in landmarks), *(node.name for node in nodes[1:])):
        rank = place[name]
        node = nodes[rank]
        assert node.op is not None
        field, jump = reach(nodes, rank)
        row = Layer(name, name, node.op.kind, node.shape, field, jump, name in called, known[rank])
        rows.append(row)
    names = [*(name for name, _ in landmarks), *(row.name for row in rows[len(landmarks) :])]
    return LayerTable([replace(row, name=name) for row, name in zip(rows, names, strict=True)])
