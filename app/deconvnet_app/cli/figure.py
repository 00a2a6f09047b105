"""`deconvnet figure`: the paper's figures."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet_app.cli.common import example

app = typer.Typer(
    help="Make a figure of the paper from an index.",
    epilog=example("deconvnet figure 2 indexes/photos --out figure-2.pdf"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

FORMATS = (".png", ".svg", ".pdf")


@app.callback()
def figures() -> None:
    """Make a figure of the paper from an index."""


@app.command(
    "2", epilog=example("deconvnet figure 2 indexes/photos --out figure-2.png --out figure-2.pdf")
)
def figure_2(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    out: Annotated[
        list[Path] | None,
        typer.Option(help="Files ending in .png, .svg or .pdf; several may be given."),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, by commas.")] = None,
    units: Annotated[int, typer.Option(min=1, max=100, help="Units per layer.")] = 6,
    columns: Annotated[int, typer.Option(min=1, max=20, help="Units side by side.")] = 3,
    seed: Annotated[int, typer.Option(help="Draws the units.")] = 0,
    dpi: Annotated[int, typer.Option(min=50, max=1200, help="Of the PNG.")] = 200,
) -> None:
    """Units of each layer: projections beside patches."""
    import matplotlib

    import deconvnet as dn
    from deconvnet.errors import ParameterError
    from deconvnet.figure import figure2

    files = out or [Path(f"figure-2{suffix}") for suffix in FORMATS]
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise ParameterError(
                f"'{file}' ends in '{file.suffix}', expected {', '.join(FORMATS)}."
            )
    made = figure2(
        dn.open_index(index), layers.split(",") if layers else None, units, columns, seed
    )
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Without these two the files would differ from run to run.
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(file.suffix.lower())
        with matplotlib.rc_context({"svg.hashsalt": "deconvnet"}):
            made.savefig(file, dpi=dpi, metadata=metadata)
        typer.echo(str(file))
