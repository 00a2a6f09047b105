"""The server around the application: its socket, its signals, its end."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from deconvnet_app import logs
from deconvnet_app.errors import PortError
from deconvnet_app.http.protocol import punctual
from deconvnet_app.settings import Settings


class _Server(uvicorn.Server):
    """Says when it answers, and ends in order."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """To end in order is a success; a second Ctrl-C does not wait."""
        del frame
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # uvicorn leaves it alone
            signal.signal(signal.SIGHUP, self.handle_exit)
        # Half a million objects of modules live as long as the process: a collection that walks
        # over them makes everybody wait for half a second.
        gc.freeze()
        self._ready()


def serve(
    settings: Settings,
    make_app: Callable[[Settings], FastAPI],
    announce: Callable[[Settings], None],
) -> None:
    """Serve until a signal says to end; then running work has `settings.drain_s` seconds to finish.

    SIGTERM and SIGINT do, and SIGHUP, which a closed terminal sends, unless it is ignored (nohup).

    Args:
        make_app: makes the application, once the port is known.
        announce: is given the settings, with the port there is, once the server answers.

    Raises:
        PortError: the port is taken.
        AppError: another server has the data directory, or it cannot be used.
    """
    logs.configure()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    with listen(settings) as listening:
        settings = settings.model_copy(update={"port": listening.getsockname()[1]})
        application = make_app(settings)
        asyncio.run(_serve(application, settings, listening, announce))


def _leave(number: int, frame: object) -> None:
    """Before the server answers there is nothing to finish."""
    del number, frame
    raise SystemExit(0)


async def _serve(
    application: FastAPI,
    settings: Settings,
    listening: socket.socket,
    announce: Callable[[Settings], None],
) -> None:
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        http=punctual(settings.receive_s, settings.connections),
        ws="none",
    )
    server = _Server(config, lambda: announce(settings))
    # The lifespan is entered here, not by uvicorn, so that what it refuses is one message.
    async with application.router.lifespan_context(application):
        await server.serve(sockets=[listening])


def listen(settings: Settings) -> socket.socket:
    """The socket that the settings name; raises PortError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Said to be TCP, or asyncio leaves Nagle's algorithm on: 40 ms for each further answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise PortError(
            f"Port {settings.port} of {settings.host} cannot be had: {error.strerror}. Give "
            "another --port."
        ) from error
    return listening
