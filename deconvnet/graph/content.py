"""The content of a graph, for fingerprints: its arrays and its steps."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvnet import fingerprint
from deconvnet.geometry.region import Window
from deconvnet.graph.nodes import Node
from deconvnet.ops.base import Op


def content(nodes: Sequence[Node], weights: Mapping[str, Tensor]) -> tuple[str, list[object]]:
    """(content key of all arrays, what the steps are): enough to tell two networks apart.

    Args:
        weights: the module's state.
    """
    known = {weight.data_ptr() for weight in weights.values()}
    own = {
        f"{node.name} {name}": value
        for node in nodes
        for name, value in vars(node.op or object).items()
        if isinstance(value, Tensor) and value.data_ptr() not in known
    }
    arrays = {name: _array(value) for name, value in (*weights.items(), *own.items())}
    steps: list[object] = [(n.name, _settings(n.op), n.inputs, n.shape) for n in nodes]
    return fingerprint.of_arrays(arrays), steps


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
