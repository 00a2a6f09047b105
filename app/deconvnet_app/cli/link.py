"""`deconvnet link`: a new link that signs a browser in."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet_app.cli.common import example

EPILOG = example("deconvnet link", "deconvnet link --data-dir D")


def command(
    data_dir: Annotated[
        Path | None, typer.Option(help="The running server's, as it was given there.")
    ] = None,
) -> None:
    """Print a link that opens the running server's dashboard, once, within an hour."""
    from deconvnet_app.access import Access
    from deconvnet_app.cli.common import make_settings
    from deconvnet_app.errors import AppError
    from deconvnet_app.lock import owner
    from deconvnet_app.urls import Urls

    data_dir = make_settings({"data_dir": data_dir}).data_dir
    serving = owner(data_dir)
    if serving is None:
        raise AppError(
            f"No server runs on data directory '{data_dir}'. Start one, deconvnet serve "
            f"--data-dir {data_dir}, or give the --data-dir of the one that runs."
        )
    address, _, _ = serving.partition(" ")
    typer.echo(address + Urls.login(Access(data_dir).mint()))
