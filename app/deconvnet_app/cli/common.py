"""What several commands share: their common arguments, and how a stop is answered."""

import contextlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from deconvnet.data.dataset import Dataset
    from deconvnet.graph.network import Network
    from deconvnet_app.settings import Settings

Net = Annotated[
    str, typer.Argument(metavar="NET", help="A network of the zoo, or path/to/net.py:build.")
]
Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")]
Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATASET...", help="Folders, tars or zips of images; nested folders are labels."
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="DEFAULT, a name of torchvision's, a .safetensors or .pth file, or 'none' for random."
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cuda, cuda:1, mps or cpu; the best there is if not given.")
]
RayNetwork = Annotated[
    bool, typer.Option("--ray-network", help="Use a cluster that other machines can reach.")
]
RayNoToken = Annotated[
    bool, typer.Option("--ray-no-token", help="Use a cluster that asks nobody for a token.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]


def example(*lines: str) -> str:
    """The epilog of a command's help, kept line by line."""
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])


def load_network(name: str, weights: str, device: str | None) -> "Network":
    """A network as the command line names it; weights 'none' are random ones."""
    import deconvnet as dn

    return dn.load(name, weights=None if weights.lower() == "none" else weights, device=device)


def load_image(net: "Network", path: Path) -> "Tensor":
    """A picture file as the network's input [1, 3, H, W].

    Raises:
        InputError: the file is missing or not a picture.
    """
    from PIL import Image

    from deconvnet.data.image import open_picture
    from deconvnet.errors import InputError

    try:
        picture = open_picture(path.read_bytes())
        return net.preprocess(picture).to(net.device, net.dtype)
    except InputError as error:
        raise InputError(f"Image '{path}': {error}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "does not exist" if not path.exists() else f"cannot be read: {error}"
        raise InputError(f"Image '{path}' {reason}. Give a picture file.") from error


def load_dataset(paths: list[Path], group_by: str | None = None) -> "Dataset":
    """A dataset of one or several paths, with groups by `group_by` (see `grouping`)."""
    from deconvnet.data.dataset import open_dataset
    from deconvnet_app.cli.grouping import grouping

    return open_dataset(paths, group=grouping(group_by) if group_by else None)


@contextlib.contextmanager
def resumable(what: str) -> Iterator[None]:
    """Answer Ctrl-C by how to go on, and exit 130.

    Args:
        what: is kept, such as "The index so far".
    """
    try:
        yield
    except KeyboardInterrupt:
        again = shlex.join(["deconvnet", *sys.argv[1:]])
        typer.echo(f"\nStopped. {what} is kept; to go on from there:\n  {again}", err=True)
        raise typer.Exit(130) from None


def print_table(
    columns: Mapping[str, Literal["left", "right"]], rows: Iterable[Sequence[str]]
) -> None:
    """A table on stdout.

    Args:
        columns: each heading with how its column is justified.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading, justify in columns.items():
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    console.print(table, width=None if console.is_terminal else 200)


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
    from deconvnet_app.main import create_app
    from deconvnet_app.server import serve

    serve(settings, create_app, _announce)


def _announce(settings: "Settings") -> None:
    from deconvnet_app.access import Access
    from deconvnet_app.urls import Urls

    path = Urls.login(Access(settings.data_dir).mint()) if settings.auth else Urls.HOME
    typer.echo(f"{settings.address}{path}  (Ctrl-C stops)")
