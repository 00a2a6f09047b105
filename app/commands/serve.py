"""`deconvnet serve`: the dashboard and the REST interface."""

import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common import example

if TYPE_CHECKING:
    from app.settings import Settings

EPILOG = example("deconvnet serve --index indexes/photos --dataset photos/ --port 8000")


def command(
    index: Annotated[
        list[Path] | None, typer.Option(help="Folder of an index; several may be given.")
    ] = None,
    dataset: Annotated[
        list[Path] | None, typer.Option(help="Images that jobs may name; several may be given.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A network of one's own: NAME=path/to/net.py:build.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="A network's weights: NAME=path/to/file.safetensors.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where uploads, jobs and results are kept.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.")] = None,
) -> None:
    """Serve the dashboard and the REST interface.

    Every setting may also be given in the environment, as DECONVNET_PORT and the like.
    """
    from app.settings import Settings
    from deconvnet.index import open_index

    for path in index or ():
        open_index(path)  # a missing or corrupt one is said now, not on the first page
    given: dict[str, Any] = {
        "indexes": _by_name(index),
        "datasets": _by_name(dataset),
        "models": _pairs(model, "--model"),
        "weights": _pairs(weights, "--weights"),
        "data_dir": data_dir,
        "port": port,
        "device": device,
    }
    chosen = {key: value for key, value in given.items() if value is not None and value != {}}
    run_server(Settings(**chosen))


def _by_name(paths: list[Path] | None) -> dict[str, Path]:
    """Each path by its last part, which must differ."""
    from deconvnet.errors import ParameterError

    named = {path.resolve().name.split(".")[0]: path for path in paths or ()}
    if len(named) < len(paths or ()):
        raise ParameterError("Two of these have one name; give them different ones.")
    return named


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    from deconvnet.errors import ParameterError

    for text in texts or ():
        if "=" not in text:
            raise ParameterError(f"{option} is '{text}', expected NAME=VALUE.")
    return dict(text.split("=", 1) for text in texts or ())


def run_server(settings: "Settings") -> None:
    """Serve until Ctrl-C or SIGTERM, having printed the link.

    Raises:
        ParameterError: the port is taken.
        AppError: another server has the data directory, or it cannot be used.
    """
    import asyncio

    listening = _listen(settings.host, settings.port)
    port = listening.getsockname()[1]
    # uvicorn raises the signal again when it has closed its connections: the exit then unwinds
    # through the application's lifespan, which lets running units finish.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    asyncio.run(_serve(settings.model_copy(update={"port": port}), listening))


def _leave(number: int, frame: object) -> None:
    del number, frame
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    from deconvnet.errors import ParameterError

    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ParameterError(
            f"Port {port} of {host} cannot be had: {error.strerror}. Give another --port."
        ) from error
    return listening


async def _serve(settings: "Settings", listening: socket.socket) -> None:
    import uvicorn

    from app.main import create_app

    application = create_app(settings)
    # The lifespan is entered here, not by uvicorn, so that what it refuses is one message.
    config = uvicorn.Config(
        application, lifespan="off", log_level="warning", access_log=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    async with application.router.lifespan_context(application):
        typer.echo(f"http://{settings.host}:{settings.port}/  (Ctrl-C stops)")
        await uvicorn.Server(config).serve(sockets=[listening])
