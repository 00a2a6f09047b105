"""Which networks there are, and their fingerprints, without running a line of theirs."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import deconvnet
from deconvnet import zoo
from deconvnet.errors import nearest
from deconvnet_app.errors import Refusal
from deconvnet_app.settings import Settings


@dataclass(frozen=True)
class ModelSource:
    """How a network is loaded: what `deconvnet.load` is given."""

    name: str
    source: str
    weights: str | None


def model_names(settings: Settings) -> list[str]:
    """The zoo's networks and the operator's own, sorted."""
    return sorted({*zoo.names(), *settings.models})


def model_source(settings: Settings, name: str) -> ModelSource:
    """How the network called `name` is loaded.

    Raises:
        Refusal: 404, there is none of that name.
    """
    names = model_names(settings)
    if name not in names:
        raise Refusal(404, "not_found", f"Model '{name[:80]}' is unknown; {nearest(name, names)}.")
    weights = settings.weights.get(name, "DEFAULT")
    own = settings.models.get(name)
    if own is not None and name not in settings.weights:
        return ModelSource(name, own, None)
    return ModelSource(name, own or name, None if weights == "NONE" else weights)


def own_file(source: ModelSource) -> Path | None:
    """The Python file of a network of the operator's own; None for the zoo's."""
    return Path(source.source.split(".py", 1)[0] + ".py") if ".py" in source.source else None


def is_shipped(source: ModelSource) -> bool:
    """Whether a network comes with this program together with its weights: it can be loaded."""
    known = own_file(source) is None and source.weights in (None, "DEFAULT")
    return known and (source.weights is None or zoo.shipped(source.source) is not None)


def why_unloadable(settings: Settings, name: str) -> str:
    """Why no worker can load a network, and the remedy, as far as its files tell; else "".

    Nothing is imported: weights that are there may still not fit, or not be had from where they
    would be downloaded. That is known once a worker has tried (`catalog.require_loadable`).
    """
    source = model_source(settings, name)
    own, weights = own_file(source), source.weights
    if own is not None and not own.is_file():
        return (
            f"The file of model '{name}', {own.name}, is not there any more. For this server: "
            f"deconvnet serve --model {name}=path/to/net.py:build."
        )
    if weights is None:
        return ""
    if weights == "DEFAULT":
        had = own is not None or zoo.shipped(source.source) or zoo.downloadable(source.source)
        return "" if had else f"Model '{name}' comes without weights. {weights_remedy(name)}"
    if Path(weights).suffix and not Path(weights).is_file():
        return (
            f"The weights of model '{name}', {Path(weights).name}, are not there. "
            f"{weights_remedy(name)}"
        )
    return ""


def weights_remedy(name: str) -> str:
    """What whoever runs this server can do about weights."""
    return f"For this server: deconvnet serve --weights {name}=path/to/file."


@cache
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns  # part of the cache's key only
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_hash(path: Path) -> str:
    try:
        info = path.stat()
        return _hash(path, info.st_size, info.st_mtime_ns)
    except OSError:
        return "missing"


@cache
def code_fingerprint() -> str:
    """A hash of the engine's version and sources: other code may give other numbers."""
    digest = hashlib.sha256()
    for package in ("torch", "torchvision"):
        digest.update(metadata.version(package).encode())
    root = Path(deconvnet.__file__).resolve().parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprint(source: ModelSource) -> str:
    """A hash of the network's own file, its weights' bytes and the engine's code."""
    file = own_file(source) or zoo.models_dir() / f"{source.source}.py"
    weights: Path | None = None
    if source.weights == "DEFAULT":
        weights = zoo.shipped(source.source)
    elif source.weights is not None and Path(source.weights).exists():
        weights = Path(source.weights)
    parts = [source.source, str(source.weights), _file_hash(file), code_fingerprint()]
    parts.append(_file_hash(weights) if weights else "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
