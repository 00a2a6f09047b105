"""The zoo: what is known of each network, and how one is loaded.

A file of `models/` holds `SPEC = ModelSpec(...)`. A user's own file is found the same way:
`path/to/net.py:build` names a function that returns an `nn.Module` (or a ModelSpec).
"""

import functools
import re
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from deconvnet.data.preprocess import Preprocess
from deconvnet.errors import ModelError, WeightsError, nearest
from deconvnet.importers.checkpoints import fit_weights, read_names, read_weights
from deconvnet.importers.own_file import execute, importable

__all__ = ["ModelSpec", "Preprocess", "Recipe", "torchvision_spec"]


T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the defaults of `deconvnet train`.

    Attributes:
        epochs, batch, rate: rate is the peak of the annealed schedule.
        first_layer_rate: conv1's rate over the others'.
        shift: random crops reach this many pixels beyond the image (padded by reflection).
        rms_clip: convolution filters are rescaled to this root mean square; None: never.
    """

    epochs: int = 70
    batch: int = 128
    rate: float = 0.01
    first_layer_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: int = 0
    rms_clip: float | None = None


@dataclass(frozen=True)
class ModelSpec:
    """What the toolkit knows of a network.

    Attributes:
        name: how it is asked for.
        build: makes the module, with random weights; takes `classes=N` where `resizable`.
        input_size: (channels, height, width).
        landmarks: "conv1" … "conv5" (and "fc6", "fc7") to call sites of the module.
        fetch: downloads a state dict by the name of its weights; None: there is none to download.
    """

    name: str
    build: Callable[..., nn.Module]
    input_size: tuple[int, int, int]
    landmarks: Mapping[str, str]
    preprocess: Preprocess
    title: str = ""
    source: str = ""
    licence: str = ""
    classes: tuple[str, ...] | None = None
    fetch: Callable[[str], Mapping[str, Tensor]] | None = None
    recipe: Recipe = field(default_factory=Recipe)


def torchvision_spec(
    name: str,
    landmarks: Mapping[str, str],
    *,
    title: str,
    source: str,
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
    std: tuple[float, float, float] = (0.229, 0.224, 0.225),
) -> ModelSpec:
    """The spec of a torchvision classifier at 224×224, with torchvision's own weights API.

    Args:
        mean, std: what the values were centred and divided by in training; ImageNet's unless said.
    """
    from torchvision import models as tv  # noqa: PLC0415 - 1 s, only for networks that need it

    weights = tv.get_model_weights(name)
    extra = {"init_weights": False} if name == "googlenet" else {}

    def fetch(which: str) -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = weights[which].get_state_dict(check_hash=True)
        if name == "googlenet":  # the auxiliary heads are for training only
            state = {key: value for key, value in state.items() if not key.startswith("aux")}
        return state

    def build(classes: int = 1000) -> nn.Module:
        if name == "googlenet":
            extra.update(aux_logits=False, transform_input=False)
        module: nn.Module = tv.get_model(name, weights=None, num_classes=classes, **extra)
        return module

    return ModelSpec(
        name=name,
        build=build,
        input_size=(3, 224, 224),
        landmarks=landmarks,
        preprocess=Preprocess((224, 224), resize=256, mean=mean, std=std),
        title=title,
        source=source,
        licence="torchvision: BSD-3-Clause; weights trained on ImageNet, whose terms apply",
        classes=tuple(weights["DEFAULT"].meta["categories"]),
        fetch=fetch,
    )


@cache
def models_dir() -> Path:
    """The zoo's folder: beside the package in a checkout, inside it in an installed wheel."""
    here = Path(__file__).resolve().parent
    installed = here / "_share" / "models"
    return installed if installed.is_dir() else here.parent / "models"


def names() -> list[str]:
    """The networks of the zoo, sorted."""
    return sorted(path.stem for path in models_dir().glob("[a-z]*.py"))


def find(name: str) -> ModelSpec:
    """The spec of a zoo network or of a user's `path/to/net.py:build`.

    Raises:
        ModelError: no such network or file, or one that does not build a module.
    """
    if ".py" in name:
        return _find_file(name)
    if name not in names():
        raise ModelError(
            f"Model '{name}' is not in the zoo; {nearest(name, names())}. "
            "A network of your own is given as path/to/net.py:build."
        )
    spec: ModelSpec = execute(models_dir() / f"{name}.py", beside=False).SPEC
    return spec


def _find_file(name: str) -> ModelSpec:
    file, _, attribute = name.rpartition(":") if name.count(":") and not name.endswith(".py") else (
        name, "", "build")  # fmt: skip
    path = Path(file).resolve()
    if not path.is_file():
        raise ModelError(f"Model file '{file}' does not exist. Give path/to/net.py:build.")
    module = execute(path)
    build = getattr(module, attribute, None)
    if build is None:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ModelError(f"'{path.name}' has no '{attribute}'; {nearest(attribute, public)}.")
    if isinstance(build, ModelSpec):
        return build
    if isinstance(getattr(module, "SPEC", None), ModelSpec) and attribute == "build":
        own: ModelSpec = module.SPEC
        return own
    if not callable(build) or isinstance(build, nn.Module):
        raise ModelError(
            f"'{name}' is a {type(build).__name__}, expected a function or class that makes one."
        )
    return _described(path, module, attribute, build)


def _described(
    path: Path, module: ModuleType, attribute: str, build: Callable[..., nn.Module]
) -> ModelSpec:
    """The spec of a user's function, with what its file says of the network."""

    def said(name: str, usual: T, fits: Callable[[Any], bool], expected: str) -> T:
        value = getattr(module, name, usual)
        if value is not usual and not fits(value):
            raise ModelError(f"'{path.name}' has {name} = {value!r:.80}, expected {expected}.")
        found: T = value
        return found

    channels, height, width = said(
        "INPUT_SIZE", (3, 224, 224), _is_size, "three whole numbers, (channels, height, width)"
    )
    classes: Sequence[str] = said("CLASSES", (), _is_names, "a sequence of names")
    return ModelSpec(
        name=f"{path.stem}:{attribute}",
        build=_beside(path, build),
        input_size=(channels, height, width),
        landmarks=said(
            "LANDMARKS", {}, lambda v: isinstance(v, Mapping), "a dictionary of names to call sites"
        ),
        preprocess=said(
            "PREPROCESS",
            Preprocess((height, width)),
            lambda v: isinstance(v, Preprocess),
            "a dn.Preprocess",
        ),
        title=path.name,
        source=str(path.name),
        classes=tuple(classes) or None,
    )


def _beside(path: Path, build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The function, which may import what lies beside its file when it is called, too."""

    @functools.wraps(build)
    def built(*args: Any, **kwargs: Any) -> nn.Module:
        with importable(path.parent):
            return build(*args, **kwargs)

    return built


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 3
        and all(isinstance(n, int) and n > 0 for n in value)
    )


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(name, str) for name in value)
    )


def _fetched(spec: ModelSpec, which: str) -> Mapping[str, Tensor]:
    if spec.fetch is None:
        raise WeightsError(
            f"Model '{spec.name}' has no weights to download; give weights='path/to/file', or "
            "None for random ones."
        )
    try:
        return spec.fetch(which)
    except KeyError as error:
        raise WeightsError(f"Model '{spec.name}' has no weights called '{which}'.") from error
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"Weights '{which}' of '{spec.name}' could not be downloaded: {error}. "
            "Without a network, give a local file: weights='path/to/file.safetensors' or '.pth'."
        ) from error


def shipped(name: str) -> Path | None:
    """The weights that come with the zoo, if any."""
    path = models_dir() / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None


@cache
def downloadable(name: str) -> bool:
    """Whether there are weights to download for a network of the zoo; its file is not run.

    Its text is looked at, once: start pages ask, and a syntax tree of each file takes longer than
    all the rest of them.
    """
    text = (models_dir() / f"{name}.py").read_text()
    return re.search(r"\btorchvision_spec\(|\bfetch\s*=", text) is not None


class Loaded(NamedTuple):
    """A module with its weights, in eval mode; display names and folder labels of its classes."""

    module: nn.Module
    classes: Sequence[str] | None
    labels: Sequence[str] | None


def materialise(
    spec: ModelSpec, weights: str | Path | None, *, seed: int = 0, classes: int | None = None
) -> Loaded:
    """The module with its weights, and its class names.

    Args:
        weights: "DEFAULT" (shipped with the zoo, else downloaded), another name of torchvision's,
            a path to .safetensors or .pth, or None for random weights drawn with `seed`.
        classes: how many, where that differs from the spec's and the weights' own.
    """
    state: Mapping[str, Tensor] | None = None
    metadata: Mapping[str, str] = {}
    if weights is not None:
        local = shipped(spec.name) if weights == "DEFAULT" else None
        if local is None and (Path(weights).suffix or Path(weights).exists()):
            local = Path(weights)
        if local is None:
            state = _fetched(spec, str(weights))
        else:
            state, metadata = read_weights(local)
    names = read_names(metadata, "classes") or spec.classes
    count = classes or (len(names) if names is not None and names is not spec.classes else None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = spec.build(classes=count) if count is not None else spec.build()
        except Exception as error:  # a user's own code: anything
            raise ModelError(
                f"'{spec.name}' could not be built: {type(error).__name__}: {error}."
            ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{spec.name}' built a {type(module).__name__}, expected an nn.Module.")
    if state is not None:
        fit_weights(module, state, f"'{weights}' for '{spec.name}'")
    return Loaded(module.eval(), names, read_names(metadata, "labels"))
