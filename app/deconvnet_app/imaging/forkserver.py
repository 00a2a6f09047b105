"""The process that forks one limited process for each file that someone sent.

It starts with an empty environment and nothing open but one socket, knows Pillow and numpy but
not torch, and converts a few pictures of its own so that everything is loaded. Then it waits. For
each message, which brings the end of a socket pair, it forks; the fork puts limits on itself,
reads its request from that socket, answers there and ends. The zygote itself never sees a byte of
the file. It reports how the fork ended, and leaves when its own socket closes.

A request: `REQUEST` (the fields of `Limits`), then the file, to the end of the stream. The answer:
`LENGTH` and so many bytes of JSON (`Made`), then the PNG, to the end. The report: `REPORT` (status
as of `os.wait4`, CPU seconds, peak memory in bytes).
"""

import dataclasses
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
from io import BytesIO
from typing import NoReturn

from PIL import Image, ImageCms

from deconvnet_app.imaging.reencode import DATASET_FORMATS, Limits, Made, reencode

REQUEST = struct.Struct("<QQ?")
LENGTH = struct.Struct("<I")
REPORT = struct.Struct("<idQ")

MEMORY_BYTES = 600_000_000
READING_CPU_S = 2
WRITING_CPU_S = 20  # of our own pixels; a picture of 50 megapixels of noise needs nine
WALL_S = 40.0

FAILED, OUT_OF_MEMORY = 1, 2  # exit codes of a fork

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def main(descriptor: int) -> None:
    """Serve until the server's end of the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the server decides
    server = socket.socket(fileno=descriptor)
    Image.MAX_IMAGE_PIXELS = None  # the limits of each request count, not Pillow's
    _warm_up()
    gc.freeze()
    while True:
        _, received, _, _ = socket.recv_fds(server, 1, 1)
        if not received:
            return
        pid = os.fork()
        if pid == 0:
            _serve_one(received[0])
        os.close(received[0])
        _, status, used = os.wait4(pid, 0)
        cpu = used.ru_utime + used.ru_stime
        server.sendall(REPORT.pack(status, cpu, used.ru_maxrss * _MAXRSS_BYTES))


def _warm_up() -> None:
    """Convert small pictures of every kind, so that no fork has to open a module's file."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in DATASET_FORMATS:
        for mode in ("RGB", "P", "I;16"):
            file = BytesIO()
            picture = Image.new(mode, (8, 8))
            if kind != "PNG":
                picture = picture.convert("RGB" if mode == "I;16" else "L")
            picture.save(file, kind, icc_profile=srgb, exif=exif)
            answers: list[Made] = []
            limits = Limits(64, 8, of_dataset=True)
            reencode(file.getvalue(), limits, answers.append, lambda _: None)
            assert answers[0].status == 200, (kind, mode, answers)


def _serve_one(descriptor: int) -> NoReturn:
    """In the fork: read a request, answer it, end; the exit code tells what has failed."""
    code = FAILED
    try:
        os.dup2(descriptor, 3)
        os.dup2(0, 2)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        _limit()
        _answer(socket.socket(fileno=3))
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        os._exit(code)


def _limit() -> None:
    """Bounds that the kernel keeps."""
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    bounds = {
        resource.RLIMIT_CPU: (READING_CPU_S, READING_CPU_S + WRITING_CPU_S),
        resource.RLIMIT_NOFILE: (0, 0),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
    }
    if sys.platform == "linux":  # elsewhere the address space is no measure of memory
        bounds[resource.RLIMIT_AS] = (MEMORY_BYTES, MEMORY_BYTES)
    for which, bound in bounds.items():
        resource.setrlimit(which, bound)


def _answer(server: socket.socket) -> None:
    received = bytearray()
    while piece := server.recv(1 << 20):
        received += piece
    limits = Limits(*REQUEST.unpack_from(received))

    def tell(made: Made) -> None:
        hard = READING_CPU_S + WRITING_CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        head = json.dumps(dataclasses.asdict(made)).encode()
        server.sendall(LENGTH.pack(len(head)) + head)

    file = bytes(memoryview(received)[REQUEST.size :])
    del received
    reencode(file, limits, tell, server.sendall)
