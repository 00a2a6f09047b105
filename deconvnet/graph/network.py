"""A traced network with its landmarks: what `load` and `trace` give, and everything else takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from deconvnet import fingerprint
from deconvnet.data.preprocess import Preprocess
from deconvnet.errors import AddressError, GraphError, InputError, ProjectionError, nearest
from deconvnet.geometry.pull import plan
from deconvnet.geometry.region import INPUT, Region
from deconvnet.graph.content import content
from deconvnet.graph.layers import Layer, LayerTable, layer_table
from deconvnet.graph.nodes import Graph, Node, Rules, like, rules, without_rule
from deconvnet.ops.base import Rule
from deconvnet.ops.derived import Derived, state
from deconvnet.precision import finite

P = ParamSpec("P")
T = TypeVar("T")


class Network:
    """A traced network: what `load` and `trace` give, and everything else takes.

    Later writes to the parameters count from then on. Call `refresh` after a write that torch does
    not count: through `.data` or NumPy. Where a module was given another Parameter, trace again.

    Attributes:
        nodes: call sites in order of execution, the input first.
        landmarks: "conv1" … to the names of nodes.
        module: an eval copy that shares the caller's parameters.
        made_in: the device and precision of the parameters when it was traced.
        weights: what was asked for: "DEFAULT", a path, or None for random ones.
    """

    def __init__(
        self,
        graph: Graph,
        rebuild: Callable[[], Graph],
        landmarks: Mapping[str, str],
        preprocess: Preprocess,
        classes: tuple[str, ...] | None = None,
        labels: tuple[str, ...] | None = None,
        name: str = "",
        spec: Any = None,
        weights: str | None = None,
    ) -> None:
        """A network; `trace` and `load` make them.

        Args:
            graph: as `build` gives it.
            rebuild: makes the graph anew, from the parameters as they are then.
        """
        self.name = name
        self.module = graph.module
        self._rebuild = rebuild
        self._use(graph)
        self._like = like(self.module)  # asked often, and slowly found
        self.made_in = (self.device, self.dtype)
        channels, height, width = graph.nodes[INPUT].shape
        self.input_size = (channels, height, width)
        self.landmarks, self.preprocess = dict(landmarks), preprocess
        self.classes, self.labels = classes, labels
        self.spec, self.weights = spec, weights
        self.place = {node.name: rank for rank, node in enumerate(self.nodes)}

    def _use(self, graph: Graph) -> None:
        self.nodes: tuple[Node, ...] = graph.nodes
        self._read = graph.read
        self._read_state = state(self._read)
        self._plans: dict[tuple[Any, ...], Any] = {}
        self._keys = Derived[str, str]()

    def refresh(self) -> None:
        """Drop all that was computed from the weights, and read them anew.

        For writes that torch does not count: to a part of a parameter's `.data`, or through NumPy.
        """
        self._use(self._rebuild())

    def follow(self) -> None:
        """Compute anew what `forward` makes of parameters alone, if those were written to."""
        now = state(self._read)
        if self._read and (now is None or now != self._read_state):
            self.refresh()

    def planned(
        self, function: "Callable[Concatenate[Sequence[Node], P], T]", *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:  # fmt: skip
        """`function(nodes, *args)`, computed once for these nodes; args must be hashable."""
        key = (function, args, tuple(kwargs.items()))
        if key not in self._plans:
            self._plans[key] = function(self.nodes, *args, **kwargs)
        found: T = self._plans[key]
        return found

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
        return self.planned(layer_table, tuple(self.landmarks.items()))

    @property
    def fingerprint(self) -> str:
        """Content key of weights, architecture and preprocessing: hex, 64 characters."""
        self.follow()
        now = state(self.module.state_dict().values())
        return self._keys.of("fingerprint", now, self._content)

    def _content(self) -> str:
        known = content(self.nodes, self.module.state_dict())
        return fingerprint.of([*known, asdict(self.preprocess)])

    @property
    def rules(self) -> Sequence[Rules]:
        """For each node, the rules by which its activations can be projected."""
        return self.planned(rules)

    def require_rule(self, layer: str, rule: Rule) -> None:
        """Refuse a way down on which an op has no such rule.

        Raises:
            AddressError: no such layer. ProjectionError: with the op, and what can be done.
        """
        place = self.find(layer)
        known = self.rules[place]
        if rule in known:
            return
        while lower := [i for i in self.nodes[place].inputs if rule not in self.rules[i]]:
            place = lower[0]
        node = self.nodes[place]
        assert node.op is not None
        raise ProjectionError(
            f"{without_rule(layer, rule, known)} The first step without it is '{node.name}' "
            f"({node.op.kind})."
        )

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
        return self.planned(plan, self.find(layer))[INPUT].at(y, x)

    def checked(self, x: Tensor) -> Tensor:
        """A batch on the network's device, in its precision.

        Args:
            x: [n, c, h, w], or [c, h, w] for one image.

        Raises:
            InputError: another shape, NaN or infinity among the values, or a tensor of another
                kind. GraphError: the parameters have gone to another device or precision.
        """
        if not isinstance(x, Tensor):
            raise InputError(f"The input is a {type(x).__name__}, expected a tensor [n, c, h, w].")
        if x.dim() == 3:
            x = x.unsqueeze(0)
        if tuple(x.shape[1:]) != tuple(self.input_size) or x.shape[0] == 0:
            size = ", ".join(map(str, self.input_size))
            raise InputError(
                f"The input is {list(x.shape)}, expected [n, {size}] for {self.name}; "
                "net.preprocess(image) gives it."
            )
        here = (self.device, self.dtype)
        if here != self.made_in:
            raise GraphError(
                f"The parameters of {self.name} are {_spelled(here)} now, and were "
                f"{_spelled(self.made_in)} when it was traced; trace it again, or make the "
                "Deconvnet anew."
            )
        if x.is_complex() or x.layout != torch.strided or x.is_meta:
            raise InputError(
                f"The input is a tensor of {x.dtype}, {x.layout}, on {x.device}; expected real "
                "numbers in a dense tensor."
            )
        x = x.detach().to(*here)
        if not finite(x):
            raise InputError("The input holds NaN or infinity; preprocess the image again.")
        self.follow()
        return x

    def __repr__(self) -> str:
        size = "×".join(map(str, self.input_size))
        layers, landmarks = len(self.nodes) - 1, len(self.landmarks)
        return f"<Network {self.name} {size}: {layers} layers, {landmarks} landmarks>"


def _spelled(place: tuple[torch.device, torch.dtype]) -> str:
    return f"{place[1]} on {place[0]}"
