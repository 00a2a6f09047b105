"""A Ray cluster of this machine alone, which asks for a token; for the time of a `with`."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class RayCluster:
    """A running cluster; `token` is the file."""

    address: str
    token: Path
    folder: Path
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """What a process needs to be let in."""
        return {"RAY_AUTH_TOKEN_PATH": str(self.token)}

    def end(self) -> None:
        """End every process of it; no other cluster's."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()

    def kill(self) -> None:
        """Kill every process of it, as a machine that loses its power does."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, at the same address and with the same token."""
        self.process = _start(self.address, self.folder, self.token, asks=True)
        _await(self)

    def pids(self) -> list[int]:
        """The processes that have the cluster's folder in their environment."""
        mark = f"RAY_TMPDIR={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found


@contextlib.contextmanager
def ray_cluster(address: str | None = None, *, asks: bool = True) -> Iterator[RayCluster]:
    """Start a cluster with two processors on the loopback interface, and end it.

    Args:
        address: where; None: at a free port.
        asks: for a token.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: it will hold sockets
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    address = address or f"127.0.0.1:{_free_port()}"
    cluster = RayCluster(address, token, folder, _start(address, folder, token, asks=asks))
    try:
        _await(cluster)
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _start(address: str, folder: Path, token: Path, *, asks: bool) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "RAY_AUTH_MODE": "token" if asks else "disabled",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TMPDIR": str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback interface alone
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT), str(ROOT / "app"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}",
        "--include-dashboard=false", "--num-cpus=2", "--object-store-memory=100000000",
        "--dashboard-agent-listen-port=0", "--metrics-export-port=0", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _await(cluster: RayCluster) -> None:
    until = time.monotonic() + 60
    while b"Ray runtime started" not in (cluster.folder / "log").read_bytes():
        if cluster.process.poll() is not None or time.monotonic() > until:
            raise AssertionError((cluster.folder / "log").read_text())
        time.sleep(0.1)
