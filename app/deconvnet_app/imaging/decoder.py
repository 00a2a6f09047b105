"""The server's side of decoding: hands files to limited processes and hears what became of them.

The server itself parses no file that someone sent.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deconvnet_app.errors import Refusal
from deconvnet_app.imaging import forkserver
from deconvnet_app.imaging.reencode import Limits, Made

_PATIENCE_S = 30.0  # for a free process, and beyond the fork's own deadline for its answer
_HEAD_MOST = 1 << 16

_PROGRAM = """
import sys
sys.path[:] = {path!r}
from deconvnet_app.imaging.forkserver import main
main({descriptor})
"""


@dataclass(frozen=True)
class Decoded:
    """What became of a file, its picture as PNG if there is one, and what that took."""

    made: Made
    png: bytes
    cpu_s: float
    memory_bytes: int


class Decoder:
    """Up to `processes` files at a time, each in a process of its own that is forked ready.

    Threads may share it. What it starts lives until `close`; one that dies is replaced.
    """

    def __init__(self, processes: int = 2) -> None:
        self._zygotes: queue.LifoQueue[_Zygote] = queue.LifoQueue()
        self._all = [_Zygote() for _ in range(processes)]
        for one in self._all:
            self._zygotes.put(one)

    def start(self) -> None:
        """Start the process that the first file will find ready; the others start when needed."""
        self._all[-1].start()

    def decode(self, data: bytes, limits: Limits) -> Decoded:
        """Check and re-encode a file.

        Raises:
            Refusal: 503, too many are waiting, or the processes keep dying.
        """
        try:
            one = self._zygotes.get(timeout=_PATIENCE_S)
        except queue.Empty as error:
            raise _busy("Too many images are waiting to be decoded.") from error
        try:
            return _outcome(*_asked(one, data, limits))
        finally:
            self._zygotes.put(one)

    def pids(self) -> list[int]:
        """The process ids of those that have started."""
        return [one.process.pid for one in self._all if one.process is not None]

    def close(self) -> None:
        """End the processes."""
        for one in self._all:
            one.kill()


class _Zygote:
    """One process of `deconvnet_app.imaging.forkserver`."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> socket.socket:
        """Start it unless it runs; its socket."""
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        path = [str(Path(entry).resolve()) for entry in sys.path]
        with theirs:
            program = _PROGRAM.format(path=path, descriptor=theirs.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", program],
                env={"OPENBLAS_NUM_THREADS": "1"},  # a fork keeps no threads
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        ours.settimeout(forkserver.WALL_S + _PATIENCE_S)
        self._control = ours
        return ours

    def ask(self, request: bytes, most: int) -> tuple[bytes, tuple[int, float, int]]:
        """Answer and report of a fork of its own.

        Raises:
            OSError: the process has gone, or does not answer in time.
        """
        control = self.start()
        near, far = socket.socketpair()
        with near:
            near.settimeout(forkserver.WALL_S + _PATIENCE_S)
            with far:
                socket.send_fds(control, [b"\0"], [far.fileno()])
            answer = bytearray()
            # A fork that ends before it has read all resets the stream; the report says why.
            with contextlib.suppress(ConnectionError):
                near.sendall(request)
                near.shutdown(socket.SHUT_WR)
                while len(answer) <= most and (piece := near.recv(1 << 20)):
                    answer += piece
        return bytes(answer), forkserver.REPORT.unpack(_receive(control, forkserver.REPORT.size))

    def kill(self) -> None:
        """End it and its fork, if it runs."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self._control is not None:
            self._control.close()
        self.process = self._control = None


def _receive(stream: socket.socket, size: int) -> bytes:
    data = stream.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise ConnectionError("the process has gone")
    return data


def _asked(one: _Zygote, data: bytes, limits: Limits) -> tuple[bytes, tuple[int, float, int]]:
    request = forkserver.REQUEST.pack(limits.pixels, limits.side, limits.of_dataset) + data
    most = 4 * limits.pixels + (1 << 20)  # noise as PNG takes three bytes a pixel
    for _ in range(2):
        try:
            return one.ask(request, most)
        except OSError:
            one.kill()
    raise _busy("The process that decodes images keeps dying.")


def _busy(why: str) -> Refusal:
    return Refusal(503, "decoder_busy", f"{why} Try again.", retry_after=5)


def _outcome(answer: bytes, report: tuple[int, float, int]) -> Decoded:
    status, cpu_s, memory_bytes = report
    code = os.waitstatus_to_exitcode(status)
    if code:
        return Decoded(_ended(code), b"", cpu_s, memory_bytes)
    start = forkserver.LENGTH.size
    (length,) = forkserver.LENGTH.unpack_from(answer)
    told = json.loads(answer[start : start + min(length, _HEAD_MOST)])
    made = Made(**{**told, "notes": tuple(told["notes"])})
    return Decoded(made, answer[start + length :], cpu_s, memory_bytes)


def _ended(code: int) -> Made:
    """Why a fork has ended before its time: `code` is its exit code, or minus a signal."""
    megabytes = forkserver.MEMORY_BYTES // 10**6
    costly = {
        -signal.SIGXCPU: (
            f"takes more than {forkserver.READING_CPU_S} s of processor time to decode."
        ),
        -signal.SIGALRM: f"takes more than {forkserver.WALL_S:g} s to decode.",
        forkserver.OUT_OF_MEMORY: f"takes more than {megabytes} MB of memory to decode.",
    }
    if code in costly:
        return Made(422, "too_costly", f"{costly[code]} Save it again, smaller, and retry.")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Made(422, "undecodable", f"cannot be taken: it ended its decoder ({how}).")
