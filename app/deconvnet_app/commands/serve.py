"""`deconvnet serve`: the dashboard and the REST interface."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvnet_app.commands.common import RayNetwork, RayNoToken, example

if TYPE_CHECKING:
    from deconvnet_app.settings import Settings

EPILOG = example(
    "deconvnet serve --index indexes/photos --dataset photos/ --port 8000",
    "deconvnet serve --index indexes/photos --backend ray --ray-address 127.0.0.1:6379",
)


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
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="PostgreSQL to keep jobs in: postgresql+psycopg://USER@HOST/NAME. Others on this "
            "machine can read a password given here; DECONVNET_DATABASE or ~/.pgpass hide it.",
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen; beyond 127.0.0.1 with --allowed-host.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name or address that browsers reach it by; several may be given."),
    ] = None,
    auth: Annotated[
        bool | None, typer.Option("--auth/--no-auth", help="Ask for the token.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes, or actors of a cluster.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Where units are computed: process, or ray.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Ray cluster that is running.")
    ] = None,
    ray_network: RayNetwork = False,
    ray_no_token: RayNoToken = False,
) -> None:
    """Serve the dashboard and the REST interface.

    It prints a link that signs a browser in, once; `deconvnet link` makes another. Every setting
    may also be given in the environment, as DECONVNET_PORT and the like.
    """
    from deconvnet.index.reader import open_index

    for path in index or ():
        open_index(path)  # a missing or corrupt one is said now, not on the first page
    given: dict[str, Any] = {
        "indexes": _by_name(index),
        "datasets": _by_name(dataset),
        "models": _pairs(model, "--model"),
        "weights": _pairs(weights, "--weights"),
        "data_dir": data_dir,
        "database": database,
        "host": host,
        "port": port,
        "allowed_hosts": allowed_host,
        "auth": auth,
        "device": device,
        "workers": workers,
        "backend": backend,
        "ray_address": ray_address,
        "ray_network": ray_network or None,
        "ray_no_token": ray_no_token or None,
    }
    run_server(make_settings(given))


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


def make_settings(given: dict[str, Any]) -> "Settings":
    """Settings of what is given here and in the environment.

    Raises:
        ParameterError: one of them is not valid.
    """
    from pydantic import ValidationError

    from deconvnet.errors import ParameterError
    from deconvnet_app.settings import Settings

    try:
        return Settings(**{key: one for key, one in given.items() if one not in (None, {}, [])})
    except ValidationError as error:
        faults = [
            ".".join(map(str, fault["loc"])) + ": " * bool(fault["loc"])
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors()
        ]  # fmt: skip
        raise ParameterError("; ".join(faults)) from error


def run_server(settings: "Settings") -> None:
    """Serve until Ctrl-C or SIGTERM, having printed the link.

    Raises:
        AppError: the port is taken; the data directory is another's or cannot be used.
    """
    from deconvnet_app.server import serve

    serve(settings, _announce)


def _announce(settings: "Settings") -> None:
    from deconvnet_app.access import Access
    from deconvnet_app.urls import Urls

    path = Urls.login(Access(settings.data_dir).mint()) if settings.auth else Urls.HOME
    typer.echo(f"{settings.address}{path}  (Ctrl-C stops)")
