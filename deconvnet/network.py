"""A traced network with its landmarks: what `load` and `trace` give, and everything else takes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvnet import fingerprint, zoo
from deconvnet.address import spells_layer
from deconvnet.errors import AddressError, ParameterError, nearest
from deconvnet.geometry.pull import plan, reach
from deconvnet.geometry.region import INPUT, Patch, Region, Window
from deconvnet.graph import build
from deconvnet.ops.base import Op
from deconvnet.ops.derived import state
from deconvnet.ops.elementwise import Expand, Product
from deconvnet.preprocess import Preprocess
from deconvnet.traceable import like
from deconvnet.ways import rules


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


def _names_of_classes(given: Any, output: tuple[int, ...]) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ParameterError(f"classes is {given!r:.80}, expected a list of names.")
    names = tuple(given)
    if len(output) == 1 and len(names) != output[0]:
        raise ParameterError(f"classes has {len(names)} names, expected {output[0]}, as outputs.")
    return names


class Network:
    """A traced network: what `load` and `trace` give, and everything else takes.

    What is written to the parameters later counts from then on. Of what goes past torch's own count
    (`.data`, NumPy) only a write to a whole filter, channel or tap is sure to be seen; after any
    other, and where a module was given another Parameter, trace again.

    Attributes:
        nodes: call sites in order of execution, the input first.
        landmarks: "conv1" … to the names of nodes.
        module: an eval copy that shares the caller's parameters.
        made_in: the device and precision of the parameters when it was traced.
        weights: what was asked for: "DEFAULT", a path, or None for random ones.
    """

    def __init__(
        self,
        module: nn.Module,
        input_size: tuple[int, int, int],
        landmarks: Mapping[str, str] | None = None,
        preprocess: Preprocess | None = None,
        classes: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        spec: Any = None,
        weights: str | None = None,
    ) -> None:
        self.name = name or type(module).__name__
        self.module, self.nodes, self._read = build(module, input_size)
        self._computed_from = state(self._read)
        self._like = like(self.module)  # asked often, and slowly found
        self.made_in = (self.device, self.dtype)
        self.input_size = (input_size[0], input_size[1], input_size[2])
        if not isinstance(preprocess, Preprocess | None):
            raise ParameterError(
                f"preprocess is {preprocess!r:.80}, expected a deconvnet.preprocess.Preprocess."
            )
        self.preprocess = preprocess or Preprocess((input_size[1], input_size[2]))
        if tuple(self.preprocess.size) != self.input_size[1:]:
            raise ParameterError(
                f"preprocess gives images of {self.preprocess.size}, expected those of the "
                f"input_size, {self.input_size[1:]}."
            )
        self.classes = _names_of_classes(classes, self.nodes[-1].shape)
        self.labels = tuple(labels) if labels is not None else None
        self.spec, self.weights = spec, weights
        self.place = {node.name: rank for rank, node in enumerate(self.nodes)}
        if not isinstance(landmarks, Mapping | None):
            raise ParameterError(
                f"landmarks are {landmarks!r:.80}, expected names for call sites, "
                '{"conv1": "features.1", …}.'
            )
        self.landmarks = dict(landmarks) if landmarks else self._stages()
        for landmark, node in self.landmarks.items():
            if not spells_layer(landmark):
                raise AddressError(
                    f"A landmark is named {landmark!r:.80}, expected a text without spaces and @."
                )
            if self.place.get(node, INPUT) == INPUT:
                raise AddressError(
                    f"Landmark '{landmark}' is {node!r}, which is not a call site of {self.name}; "
                    f"{nearest(str(node), list(self.place)[1:])}."
                )
        self.cache: dict[Any, Any] = {}  # plans derived from the graph, never results

    def refresh(self) -> None:
        """Compute anew what `forward` makes of parameters alone, if those were written to."""
        now = state(self._read)
        if self._read and (now is None or now != self._computed_from):
            _, self.nodes, self._read = build(self.module, self.input_size)
            self._computed_from = state(self._read)
            self.cache.clear()

    def _stages(self) -> dict[str, str]:
        """Landmarks for a network that names none: the last nonlinearity at each size of the map.

        Gates, whose maps have one cell or are only multiplied with others, are none. Of more than
        five the last five; of fewer, ones evenly spread over the depth.
        """
        gates = self._gates()
        maps = [
            node for node in self.nodes[1:]
            if node.op is not None and node.op.nonlinear and len(node.shape) == 3
        ]  # fmt: skip
        found = [n for n in maps if n.shape[1:] != (1, 1) and n.name not in gates] or maps
        by_size = {node.shape[1:]: node.name for node in found}
        last = sorted(by_size.values(), key=self.place.__getitem__)[-5:]
        if len(last) < 5 <= len(found) or len(last) < len(found) <= 5:
            count = min(5, len(found))
            picks = sorted({round((i + 1) * len(found) / count) - 1 for i in range(count)})
            last = [found[i].name for i in picks]
        return {f"conv{i + 1}": name for i, name in enumerate(last)}

    def _gates(self) -> set[str]:
        """Call sites that are read by products alone, expanded or as they are."""
        others, multiplied = set[int](), set[int]()
        for node in self.nodes[1:]:
            factor = isinstance(node.op, Expand | Product)
            (multiplied if factor else others).update(node.inputs)
        return {self.nodes[place].name for place in multiplied - others}

    @property
    def device(self) -> torch.device:
        """Where the parameters are (buffers, where there are none)."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """What the parameters are."""
        return self._like.dtype

    @property
    def layers(self) -> LayerTable:
        """Landmarks and all layers: name, shape, receptive field, jump."""
        if "layers" not in self.cache:
            self.cache["layers"] = _layer_table(self)
        table_: LayerTable = self.cache["layers"]
        return table_

    @property
    def fingerprint(self) -> str:
        """Content key of weights, architecture and preprocessing: hex, 64 characters."""
        self.refresh()
        weights = self.module.state_dict()
        now = state(weights.values())
        held = self.cache.get("fingerprint")
        if held is None or now is None or held[0] != now:
            held = self.cache["fingerprint"] = (now, _fingerprint(self, weights))
        return str(held[1])

    def find(self, layer: str) -> int:
        """The place of a landmark or call site among the nodes.

        Raises:
            AddressError: with the nearest names.
        """
        name = self.landmarks.get(layer, layer)
        if name not in self.place or name == "input":
            known = [*self.landmarks, *(n for n in self.place if n != "input")]
            raise AddressError(
                f"Layer '{layer}' is not in {self.name}; {nearest(str(layer), known)}."
            )
        return self.place[name]

    def layer(self, name: str) -> Layer:
        """One row of `layers`. Raises AddressError with the nearest names."""
        self.find(name)
        return self.layers[name]

    def field(self, layer: str, y: int, x: int) -> Region:
        """What position (y, x) of a layer sees, in pixels; it may reach beyond the image.

        Raises:
            AddressError: no such layer.
        """
        place = self.find(layer)
        key = ("field", place)
        if key not in self.cache:
            self.cache[key] = plan(self.nodes, place)[INPUT]
        patch: Patch = self.cache[key]
        return patch.at(y, x)

    def __repr__(self) -> str:
        size = "×".join(map(str, self.input_size))
        layers, landmarks = len(self.nodes) - 1, len(self.landmarks)
        return f"<Network {self.name} {size}: {layers} layers, {landmarks} landmarks>"


def _layer_table(net: Network) -> LayerTable:
    called = {node: landmark for landmark, node in net.landmarks.items()}
    ways = rules(net)
    rows = []
    for name in (*net.landmarks.values(), *(node.name for node in net.nodes[1:])):
        place = net.place[name]
        node = net.nodes[place]
        assert node.op is not None
        field, jump = reach(net.nodes, place)
        row = Layer(name, name, node.op.kind, node.shape, field, jump, name in called, ways[place])
        rows.append(row)
    names = [*net.landmarks, *(row.name for row in rows[len(net.landmarks) :])]
    return LayerTable([replace(row, name=name) for row, name in zip(rows, names, strict=True)])


def _fingerprint(net: Network, weights: Mapping[str, Tensor]) -> str:
    known = {weight.data_ptr() for weight in weights.values()}
    own = {
        f"{node.name} {name}": value
        for node in net.nodes
        for name, value in vars(node.op or object).items()
        if isinstance(value, Tensor) and value.data_ptr() not in known
    }
    arrays = {name: _array(value) for name, value in (*weights.items(), *own.items())}
    shape = [(n.name, _settings(n.op), n.inputs, n.shape) for n in net.nodes]
    return fingerprint.of([fingerprint.of_arrays(arrays), shape, asdict(net.preprocess)])


def _array(weight: Tensor) -> NDArray[np.generic]:
    weight = weight.detach().cpu()
    array: NDArray[np.generic] = (
        weight if weight.dtype == torch.float64 else weight.float()
    ).numpy()
    return array


def _settings(op: Op | None) -> list[str]:
    """What an op does, its weights and functions left out."""
    if op is None:
        return ["input"]
    plain_ = (
        (name, value) for name, value in sorted(vars(op).items())
        if isinstance(value, bool | int | float | str | tuple | list | Window | None)
    )  # fmt: skip
    return [op.kind, *(f"{name}={value!r}" for name, value in plain_)]


def trace(
    module: nn.Module,
    input_size: tuple[int, int, int] = (3, 224, 224),
    landmarks: Mapping[str, str] | None = None,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
) -> Network:
    """A `Network` from any nn.Module that takes one image tensor and returns one tensor.

    Args:
        module: it is not changed; its parameters are shared. Treated as in eval mode. Hooks that
            were registered on it do not run, also where they would change an output.
        input_size: (channels, height, width).
        landmarks: names for call sites, {"conv1": "features.1", …}; None: the last ReLU, or
            other nonlinearity, at each size of the map.
        preprocess: None: values in [0, 1] at the input's size.

    Raises:
        GraphError: it cannot be traced, or the graph does not reproduce it.
        UnknownOpError: an operation is not in the op table.
    """
    return Network(module, input_size, landmarks, preprocess, classes, name=name)


def load(
    name: str, weights: str | Path | None = "DEFAULT", device: str | torch.device | None = None
) -> Network:
    """A network of the zoo, or of a user's own file.

    Args:
        name: "zfnet64", "vgg16", … or "path/to/net.py:build".
        weights: "DEFAULT" (shipped, else torchvision's download), a name of torchvision's, a path
            to .safetensors or .pth, or None for random ones. A file of one's own has no DEFAULT:
            it keeps what `build` gave it.
        device: None: CUDA, MPS or CPU, the first that is there.

    Raises:
        ModelError: no such network.
        WeightsError: weights missing, unreadable or of another architecture.
    """
    spec = zoo.find(str(name))
    own = spec.fetch is None and zoo.shipped(spec.name) is None
    asked = None if own and weights == "DEFAULT" and ".py" in str(name) else weights
    loaded = zoo.materialise(spec, asked)
    module = loaded.module.to(device if device is not None else best_device())
    module = module.to(memory_format=torch.channels_last)  # as the maps are: no kernel is converted
    return Network(
        module,
        spec.input_size,
        spec.landmarks or None,
        spec.preprocess,
        loaded.classes,
        loaded.labels,
        name=spec.name,
        spec=spec,
        weights=None if asked is None else str(asked),
    )


def best_device() -> torch.device:
    """CUDA, MPS or CPU, the first that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
