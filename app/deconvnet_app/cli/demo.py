"""`deconvnet demo`: a trained network, photographs and their index, in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet_app.cli.common import Quiet, example, load_network, resumable

EPILOG = example("deconvnet demo --port 8000", "deconvnet demo --data-dir D --no-serve")

NETWORK = "zfnet64"
PER_GROUP = 2  # hits of a unit from one photograph


def command(
    data_dir: Annotated[Path, typer.Option(help="Where tiles, index and results are kept.")] = Path(
        ".demo"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    serve: Annotated[bool, typer.Option(help="Serve when the index is there.")] = True,
    quiet: Quiet = False,
) -> None:
    """Build the demo where it is missing, and serve it.

    Its photographs come with scikit-image, its network with the program; nothing is downloaded.
    """
    tiles, index = prepare(data_dir, quiet=quiet)
    if serve:
        from deconvnet_app.cli.common import make_settings, run_server

        own = {"data_dir": data_dir, "port": port}
        run_server(make_settings({**own, "indexes": {"demo": index}, "datasets": {"tiles": tiles}}))


def prepare(data_dir: Path, *, quiet: bool) -> tuple[Path, Path]:
    """(the tiles' folder, the index's), both built where they are missing."""
    import deconvnet as dn
    from deconvnet.data.dataset import open_dataset
    from deconvnet_app.catalog import demo

    tiles, index = data_dir / "tiles", data_dir / "indexes" / NETWORK
    with resumable("What is built"):
        count = len(demo.write_tiles(tiles))
        net = load_network(NETWORK, "DEFAULT", None)
        dataset = open_dataset(tiles, group=demo.photograph_of)
        built = dn.build_index(
            net, dataset, index, k=9, per_group=PER_GROUP, progress=not quiet
        )  # fmt: skip
    units = sum(built.channels(layer) for layer in built.layers)
    typer.echo(f"{index}: {count} tiles, {units} units of {NETWORK}")
    return tiles, index
