"""`trace`: a network from any torch module."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from deconvnet.data.preprocess import Preprocess
from deconvnet.errors import ParameterError
from deconvnet.graph.build import build
from deconvnet.graph.landmarks import landmarks_of
from deconvnet.graph.network import Network


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
    return network_of(module, input_size, landmarks, preprocess, classes, name=name)


def network_of(
    module: nn.Module,
    input_size: tuple[int, int, int],
    landmarks: Mapping[str, str] | None = None,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
    spec: Any = None,
    weights: str | None = None,
) -> Network:
    """`trace`, with what the zoo knows of a network besides."""
    graph = build(module, input_size)
    name = name or type(module).__name__
    if not isinstance(preprocess, Preprocess | None):
        raise ParameterError(f"preprocess is {preprocess!r:.80}, expected a dn.Preprocess.")
    size = (input_size[1], input_size[2])
    preprocess = preprocess or Preprocess(size)
    if tuple(preprocess.size) != size:
        raise ParameterError(
            f"preprocess gives images of {preprocess.size}, expected those of the "
            f"input_size, {size}."
        )
    return Network(
        graph,
        partial(build, graph.module, input_size),
        landmarks_of(graph.nodes, landmarks, name),
        preprocess,
        _names_of_classes(classes, graph.nodes[-1].shape),
        tuple(labels) if labels is not None else None,
        name,
        spec,
        weights,
    )


def _names_of_classes(given: Any, output: tuple[int, ...]) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ParameterError(f"classes is {given!r:.80}, expected a list of names.")
    names = tuple(given)
    if len(output) == 1 and len(names) != output[0]:
        raise ParameterError(f"classes has {len(names)} names, expected {output[0]}, as outputs.")
    return names
