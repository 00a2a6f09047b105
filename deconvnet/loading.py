"""`load`: a network of the zoo, or of a user's own file."""

from pathlib import Path

import torch

from deconvnet import zoo
from deconvnet.graph.network import Network
from deconvnet.graph.trace import network_of


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
    return network_of(
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
