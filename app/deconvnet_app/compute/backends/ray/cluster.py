"""A Ray cluster that the user runs: what is asked of it before anything is sent there, and joining.

Nothing here starts a cluster. Whoever reaches a cluster without a token can run any program on it,
so one that asks for none is refused, and so is one that other machines can reach: unless the
operator says that this is meant. Ray's own ports are not encrypted.

A driver must be on one of the cluster's machines.
"""

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet_app.errors import ClusterError
from deconvnet_app.settings import is_loopback

_CONNECT_S = 5.0
_PROBE_S = 40.0
_LOOK_S = 1.0  # between two looks whether the cluster is still there
_MISSES = 5

# On a loopback address Ray would otherwise put this machine's outer one in its place.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_START = (
    "RAY_AUTH_MODE=token RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 "
    "ray start --head --node-ip-address=127.0.0.1 --port={port}"
)

# In a process of its own, as Ray reads its mode and token from the environment once.
_PROBE = """
import json, sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    nodes = GcsClient(address=sys.argv[1]).get_all_node_info()
    print(json.dumps([node.node_manager_address for node in nodes.values() if node.state == 0]))
except AuthenticationError:
    print("null")
"""


@dataclass(frozen=True)
class Cluster:
    """Where a cluster is, and what the operator says of it.

    Attributes:
        address: HOST:PORT of its head.
        network: other machines may reach it.
        no_token: it asks nobody for a token.
    """

    address: str
    network: bool = False
    no_token: bool = False

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.rpartition(":")
        if not host or "/" in host or not port.isdigit():
            raise ClusterError(
                f"The Ray address is '{self.address}', expected HOST:PORT of a running cluster's "
                "head, such as 127.0.0.1:6379."
            )
        return host.strip("[]"), int(port)

    @property
    def local(self) -> bool:
        """Whether its address is this machine's own."""
        return is_loopback(self.place[0])

    def environment(self) -> dict[str, str]:
        """What Ray must find in the environment of a process that joins."""
        given = {"RAY_AUTH_MODE": "disabled" if self.no_token else "token"}
        return given | (_LOOPBACK if self.local else {})


def check(cluster: Cluster) -> None:
    """Refuse a cluster that is not there, or that lets in whoever comes.

    Raises:
        ClusterError: what is wrong, and the remedy.
    """
    _require_ray()
    host, port = cluster.place
    if not cluster.local and not cluster.network:
        raise ClusterError(
            f"The Ray cluster at {cluster.address} is reached over a network, where others may "
            "listen. If that network is trusted, say so: --ray-network."
        )
    if not _answers(host, port):
        raise ClusterError(
            f"Nothing answers at {cluster.address}. Start a cluster: {_START.format(port=port)}"
        )
    if not cluster.no_token:
        _require_token()
        if _probe(cluster.address, os.environ | cluster.environment()) is None:
            raise ClusterError(
                f"The Ray cluster at {cluster.address} does not take this token. Give the one that "
                "it was started with, in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token."
            )
    found = _probe(cluster.address, _without_token(cluster))
    if found is not None and not cluster.no_token:
        raise ClusterError(
            f"The Ray cluster at {cluster.address} asks nobody for a token: whoever reaches it can "
            "run any program there. Start it with RAY_AUTH_MODE=token, or say that this is meant: "
            "--ray-no-token."
        )


def join(cluster: Cluster) -> None:
    """Connect this process to a running cluster, as a driver.

    Raises:
        ClusterError: it is not there, refuses the token, or is reached by other machines unasked.
    """
    _require_ray()
    if not _answers(*cluster.place):
        raise ClusterError(f"Nothing answers at {cluster.address}.")
    os.environ.update(cluster.environment())
    import ray  # noqa: PLC0415 - an extra; and it reads the environment when it is imported

    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call] # Ray's own
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        refused = f"The Ray cluster at {cluster.address} cannot be joined: {error}"
        raise ClusterError(refused) from error
    outer = [node["NodeManagerAddress"] for node in nodes if node["Alive"]]
    reached = [address for address in outer if not is_loopback(address)]
    if reached and not cluster.network:
        ray.shutdown()
        raise ClusterError(
            f"The Ray cluster at {cluster.address} listens on {reached[0]}, where other machines "
            f"reach it. Start it for this one alone: {_START.format(port=cluster.place[1])}; "
            "or, if that network is trusted, say so: --ray-network."
        )


def watch(cluster: Cluster, lost: Callable[[], object]) -> None:
    """Call `lost` once the cluster's head has not answered for some seconds.

    Ray itself waits for a minute and then ends the process.
    """

    def look() -> None:
        missed = 0
        while missed < _MISSES:
            time.sleep(_LOOK_S)
            missed = 0 if _answers(*cluster.place) else missed + 1
        lost()

    threading.Thread(target=look, name="cluster", daemon=True).start()


def gone(cluster: Cluster) -> bool:
    """Whether the cluster, or this machine's part of it, has just ended."""
    time.sleep(_LOOK_S)
    return not _answers(*cluster.place)


def _require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("Ray is not installed. Install it: pip install 'deconvnet[ray]'")


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _CONNECT_S):
            return True
    except OSError:
        return False


def _require_token() -> None:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not os.environ.get("RAY_AUTH_TOKEN") and not path.is_file():
        raise ClusterError(
            "There is no token for the Ray cluster. Give the one that it was started with, in "
            "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token (ray get-auth-token "
            "--generate makes one); for a cluster without any, say so: --ray-no-token."
        )


def _without_token(cluster: Cluster) -> dict[str, str]:
    kept = {name: one for name, one in os.environ.items() if not name.startswith("RAY_AUTH")}
    return kept | cluster.environment() | {"RAY_AUTH_MODE": "disabled"}


def _probe(address: str, environment: dict[str, str]) -> list[str] | None:
    """The addresses of a cluster's machines; None: it refuses who asks like this."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            env=environment, capture_output=True, text=True, timeout=_PROBE_S, check=True,
        )  # fmt: skip
        found: list[str] | None = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ClusterError(
            f"What answers at {address} is no Ray cluster of this version of Ray. "
            "Use the same version of Ray and of Python everywhere."
        ) from error
    return found
