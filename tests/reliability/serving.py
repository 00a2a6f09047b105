"""A server in a process of its own, as `deconvnet serve` starts it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.checkout import pythonpath

COMMAND = "from deconvnet_app.cli.main import main; main()"


class NotServedError(SystemExit):
    """A server ended before it answered.

    Attributes:
        exit_code: its own.
        log: what it said on stderr.
    """

    def __init__(self, exit_code: int, log: str) -> None:
        super().__init__(f"The server did not start (exit code {exit_code}):\n{log}")
        self.exit_code = exit_code
        self.log = log


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        link: signs a browser in, once.
        log: what it has said on stderr so far.
    """

    process: subprocess.Popen[str]
    link: str
    token: str
    log: list[str]

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return urlsplit(self.link).port or 0

    @property
    def bearer(self) -> dict[str, str]:
        """The header that lets in."""
        return {"Authorization": f"Bearer {self.token}"}


def launch(
    data_dir: Path,
    *arguments: str,
    code: str = COMMAND,
    settings: dict[str, object] | None = None,
    variables: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The process of a server on any free port; it does not answer yet.

    Args:
        code: what runs the command; it may prepare the process first.
        settings: besides the arguments, as in the environment.
        variables: of the environment, besides this process's own.
    """
    environment = os.environ | {"PYTHONPATH": pythonpath(), "OMP_NUM_THREADS": "1"}
    for name, value in (settings or {}).items():
        environment[f"DECONVNET_{name.upper()}"] = (
            value if isinstance(value, str) else json.dumps(value)
        )
    command = ["serve", "--data-dir", str(data_dir), "--port", "0", *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | (variables or {}),
    )


def start(
    data_dir: Path,
    *arguments: str,
    code: str = COMMAND,
    settings: dict[str, object] | None = None,
    variables: dict[str, str] | None = None,
) -> Served:
    """`launch` a server and wait until it answers."""
    process = launch(data_dir, *arguments, code=code, settings=settings, variables=variables)
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reading = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    reading.start()
    link = process.stdout.readline().split(" ")[0]
    if not link:
        process.wait()
        reading.join(5)
        raise NotServedError(process.returncode, "".join(log))
    return Served(process, link, (data_dir / "token").read_text().strip(), log)


@contextlib.contextmanager
def server(
    data_dir: Path, *arguments: str, code: str = COMMAND, settings: dict[str, object] | None = None
) -> Iterator[Served]:
    """`start`, and its end."""
    served = start(data_dir, *arguments, code=code, settings=settings)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait()
