"""Commands of `deconvnet` run by forks of a process that has imported all they need.

A thousand runs of a command are mostly imports; here each costs what the command itself does.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import pythonpath

# Told by a line of JSON: begins a command in a process group of its own and says its id; then, on
# the next line, waits for its end and says the exit code.
_FORKING = """
import json, os, sys
from deconvnet_app.cli.main import main
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.setpgid(0, 0)
    for handle, name in ((1, asked["out"]), (2, asked["log"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), handle)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["deconvnet", *asked["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
"""


@dataclass(frozen=True)
class Ended:
    """A command at its end; `code` is negative where a signal ended it."""

    code: int
    out: str
    log: str


class Warm:
    """The process that forks.

    Args:
        folder: for what the commands say.
        imports: modules that are imported first, besides the command line's.
        variables: of the environment, besides this process's own.
    """

    def __init__(self, folder: Path, imports: str, variables: dict[str, str]) -> None:
        self._out, self._log = folder / "out", folder / "log"
        environment = os.environ | {"PYTHONPATH": pythonpath(), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import {imports}\n{_FORKING}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | variables,
        )
        self._running: int | None = None

    def begin(self, *arguments: str) -> None:
        """Start a command."""
        for path in (self._out, self._log):
            path.unlink(missing_ok=True)
        said = {"arguments": arguments, "out": str(self._out), "log": str(self._log)}
        self._running = int(self._ask(said))

    def first_line(self, most_s: float) -> str:
        """What the command says first; "" if it ends, or does not say it in time."""
        until = time.monotonic() + most_s
        while time.monotonic() < until and self._lives():
            with contextlib.suppress(FileNotFoundError):
                line, end, _ = self._out.read_text().partition("\n")
                if end:
                    return line
            time.sleep(0.01)
        return ""

    def end(self, most_s: float, number: int | None = None) -> Ended:
        """Wait for the command's end; raises TimeoutError, having killed it with all it started.

        Args:
            most_s: seconds that it may take.
            number: a signal that it is sent first.
        """
        pid = self._running
        assert pid is not None
        if number is not None:
            os.kill(pid, number)
        late = threading.Timer(most_s, os.killpg, (pid, signal.SIGKILL))
        late.start()
        code = int(self._ask({"wait": pid}))
        overdue = not late.is_alive()
        late.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        self._running = None
        if overdue:
            raise TimeoutError(f"not done after {most_s:g} s; it said: {self._log.read_text()}")
        return Ended(code, self._out.read_text(), self._log.read_text())

    def run(self, most_s: float, *arguments: str) -> Ended:
        """A command from its start to its end; raises TimeoutError."""
        self.begin(*arguments)
        return self.end(most_s)

    def close(self) -> None:
        """End whatever runs, and the process."""
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def _ask(self, said: dict[str, object]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(said), file=self._process.stdin, flush=True)
        return self._process.stdout.readline()

    def _lives(self) -> bool:
        try:
            state = Path(f"/proc/{self._running}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"
