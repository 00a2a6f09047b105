"""A network in plain JSON values: what an index keeps of it, what pages and REST show, and what a
request can be checked against where the network itself is not at hand."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from deconvnet.address import Unit
from deconvnet.errors import AddressError, nearest
from deconvnet.graph.network import Network
from deconvnet.ops.base import Rule

Description = Mapping[str, Any]


def describe(net: Network) -> dict[str, Any]:
    """What is known of a network, without its weights.

    Returns:
        name, title, source, licence; input_size [c, h, w]; output, what it gives for an image, such
        as [classes]; weights (the name asked for, or a file's own name); weights_hash (the
        fingerprint); preprocess; classes and labels (or None); landmarks in order of depth; layers,
        landmarks first: {name, node, kind, shape, receptive_field, jump, landmark, rules}.
    """
    spec = net.spec
    return {
        "name": net.name,
        "title": (spec.title if spec else "") or net.name,
        "source": spec.source if spec else "",
        "licence": spec.licence if spec else "",
        "input_size": list(net.input_size),
        "output": list(net.nodes[-1].shape),
        "weights": PurePath(net.weights).name if net.weights is not None else None,
        "weights_hash": net.fingerprint,
        "preprocess": asdict(net.preprocess),
        "classes": list(net.classes) if net.classes is not None else None,
        "labels": list(net.labels) if net.labels is not None else None,
        "landmarks": sorted(net.landmarks, key=net.find),
        "layers": [asdict(layer) for layer in net.layers.values()],
    }


def rules_of(described: Description, layer: str) -> tuple[Rule, ...]:
    """The rules by which a layer's units can be projected; none of a layer that is not there."""
    rows = (row for row in described["layers"] if row["name"] == layer)
    return tuple(rule for row in rows for rule in row["rules"])


def layer_of(described: Description, unit: Unit) -> Mapping[str, Any]:
    """A unit's layer, as `describe` tells it.

    Raises:
        AddressError: the network has no such unit; with what it has.
    """
    model, known = described["name"], {layer["name"]: layer for layer in described["layers"]}
    if unit.layer not in known:
        hint = nearest(unit.layer, known)
        raise AddressError(f"Layer '{unit.layer[:80]}' is not in {model}; {hint}.")
    layer: Mapping[str, Any] = known[unit.layer]
    channels, *size = layer["shape"]
    if unit.channel >= channels:
        raise AddressError(
            f"Unit '{unit}' does not exist: layer '{unit.layer}' of {model} has channels 0 to "
            f"{channels - 1}."
        )
    if unit.y is not None and unit.x is not None:
        height, width = size if len(size) == 2 else (1, 1)
        if unit.y >= height or unit.x >= width:
            raise AddressError(
                f"Unit '{unit}' lies outside layer '{unit.layer}' of {model}, whose map is "
                f"{height}×{width}; expected y from 0 to {height - 1} and x from 0 to {width - 1}, "
                "or no position for the strongest one."
            )
    return layer
