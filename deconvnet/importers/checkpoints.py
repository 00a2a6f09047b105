"""Reading and writing weights: safetensors, or `.pth` with `weights_only`; no pickle's code."""

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deconvnet.errors import WeightsError


def atomic_replace(temporary: Path, path: Path) -> None:
    """Flush `temporary` to the disk and give it its final name."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write safetensors atomically, with string metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, temporary, metadata=dict(metadata))
    temporary.chmod(0o644)  # safetensors makes it readable by its owner alone
    atomic_replace(temporary, path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state dict, metadata) of a `.safetensors`, `.pth` or `.pt` file.

    Raises:
        WeightsError: no such file, another format, or a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"Weights '{path}' do not exist. Give a .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as opened:
                metadata = opened.metadata() or {}
            return load_file(path), metadata
        if path.suffix in (".pth", ".pt"):
            state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
                state = state["state_dict"]
            if not isinstance(state, dict) or not all(
                isinstance(value, Tensor) for value in state.values()
            ):
                raise WeightsError(f"'{path}' is not a state dict: it holds more than tensors.")
            return state, {}
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError,
            OSError, ValueError) as error:  # fmt: skip
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(
            f"Weights '{path}' cannot be read as tensors alone: {reason}. "
            "Save the state dict as safetensors."
        ) from error
    raise WeightsError(f"Weights '{path}' end in '{path.suffix}', expected .safetensors or .pth.")


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict into a module, converting to its dtype.

    Raises:
        WeightsError: naming the first tensor that is missing, superfluous, of another shape, or
            not finite.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            if name.endswith("num_batches_tracked"):
                continue
            raise WeightsError(
                f"Weights {origin} lack '{name}' {list(tensor.shape)}. "
                "They are of another architecture."
            )
        if state[name].shape != tensor.shape:
            raise WeightsError(
                f"Weights {origin} have '{name}' as {list(state[name].shape)}, expected "
                f"{list(tensor.shape)}. They are of another architecture or number of classes."
            )
        if not torch.isfinite(state[name].float()).all():
            raise WeightsError(f"Weights {origin} hold NaN or infinity in '{name}'.")
    for name in state:
        if name not in own:
            raise WeightsError(
                f"Weights {origin} have '{name}', which the architecture has not. "
                "They are of another architecture."
            )
    module.load_state_dict(
        {n: t.to(own[n].dtype) for n, t in state.items()}, strict=False, assign=False
    )


def read_names(metadata: Mapping[str, str], key: str) -> tuple[str, ...] | None:
    """Class names ("classes") or folder labels ("labels"), kept with weights by the trainer."""
    return tuple(json.loads(metadata[key])) if key in metadata else None
