"""A network in plain JSON values: what an index keeps of it, and what pages and REST show."""

from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from deconvnet.network import Network


def describe(net: Network) -> dict[str, Any]:
    """What is known of a network, without its weights.

    Returns:
        name, title, source, licence; input_size [c, h, w]; weights (the name asked for, or a file's
        own name); weights_hash (the fingerprint); preprocess; classes and labels (or None);
        landmarks in order of depth; layers, landmarks first: {name, node, kind, shape,
        receptive_field, jump, landmark}.
    """
    spec = net.spec
    return {
        "name": net.name,
        "title": (spec.title if spec else "") or net.name,
        "source": spec.source if spec else "",
        "licence": spec.licence if spec else "",
        "input_size": list(net.input_size),
        "weights": PurePath(net.weights).name if net.weights is not None else None,
        "weights_hash": net.fingerprint,
        "preprocess": asdict(net.preprocess),
        "classes": list(net.classes) if net.classes is not None else None,
        "labels": list(net.labels) if net.labels is not None else None,
        "landmarks": sorted(net.landmarks, key=net.find),
        "layers": [asdict(layer) for layer in net.layers.values()],
    }
