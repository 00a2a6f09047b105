"""`deconvnet serve`: the dashboard and the REST interface."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvnet_app.cli.common import (
    RayNetwork,
    RayNoToken,
    _by_name,
    _pairs,
    example,
    make_settings,
    run_server,
)

if TYPE_CHECKING:
    pass

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
