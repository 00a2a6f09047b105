"""Actors of the cluster that this process has joined: started, compared with us, asked.

The code is not sent: it is installed on every machine, and an actor whose sources are others than
ours is refused, as it might give other numbers.
"""

import hashlib
import platform
from pathlib import Path
from typing import Any

import torch

import deconvnet
import deconvnet_app
from deconvnet_app.catalog.models import code_fingerprint
from deconvnet_app.errors import ClusterError

_START_S = 120.0  # for a free processor, a process and its imports
_AT_ONCE = 4  # calls that an actor answers side by side


class Actor:
    """What every actor tells of itself."""

    def installed(self) -> tuple[str, str, str]:
        """Its machine's name; the version and a hash of the sources of what is installed there."""
        return platform.node(), *installed()


def installed() -> tuple[str, str]:
    """Version and a hash of the sources of what is installed here, ours and torch."""
    digest = hashlib.sha256(code_fingerprint().encode())
    root = Path(deconvnet_app.__file__).resolve().parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return deconvnet.__version__, digest.hexdigest()


def hire(kind: type[Actor], *arguments: Any, device: str | None) -> Any:
    """An actor of that class, which has as many threads as torch takes here, or a GPU.

    Raises:
        ClusterError: none can be started, or other code is installed where it runs.
    """
    import ray  # noqa: PLC0415 - an extra, and half a second

    needs = {"num_cpus": torch.get_num_threads(), "num_gpus": int("cuda" in (device or ""))}
    actor_class: Any = ray.remote(kind)
    actor = actor_class.options(max_concurrency=_AT_ONCE, **needs).remote(*arguments)
    try:
        machine, version, sources = ray.get(actor.installed.remote(), timeout=_START_S)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(
            f"The Ray cluster has started no worker within {_START_S:g} s: no machine has "
            f"{needs['num_cpus']} free processors and {needs['num_gpus']} free GPUs. Free some, or "
            "set OMP_NUM_THREADS here to ask for fewer processors."
        ) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(
            "No worker can be started on the Ray cluster. Install deconvnet on each of its "
            f"machines, in the environment that runs Ray there. {_last_line(error)}"
        ) from error
    if (version, sources) != installed():
        raise ClusterError(
            f"{machine} has deconvnet {version}, expected {installed()[0]} with the same sources "
            "and the same torch as here. Install it so on every machine of the cluster."
        )
    return actor


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip()


def ask(method: Any, *arguments: Any) -> Any:
    """What an actor's method returns; raises `lost_actor()` when it is gone."""
    import ray  # noqa: PLC0415 - likewise

    return ray.get(method.remote(*arguments))


def lost_actor() -> type[Exception]:
    """The exception that tells that an actor, or what it held, is gone."""
    import ray  # noqa: PLC0415 - likewise

    error: type[Exception] = ray.exceptions.RayError
    return error
