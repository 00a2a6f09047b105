"""`deconvnet filters`: a convolution's kernels as a picture."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deconvnet_app.cli.common import Device, Net, Weights, example, load_network

EPILOG = example("deconvnet filters zfnet64 conv1 --out filters.png")


class Contrast(StrEnum):
    """Whether each kernel fills the range of colours by itself, or all do together."""

    OWN = "own"
    SHARED = "shared"


def command(
    net: Net,
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="Such as conv1.")] = "conv1",
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("filters.png"),
    scale: Annotated[Contrast, typer.Option(help="Contrast of each kernel.")] = Contrast.OWN,
    weights: Weights = "DEFAULT",
    device: Device = "cpu",
) -> None:
    """Draw a layer's filters; name the dead and dominant ones.

    First-layer kernels are in colour; deeper ones are shown by input channel.
    """
    from PIL import Image

    import deconvnet as dn

    grid = dn.filters(load_network(net, weights, device), layer)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.picture(scale.value)).save(out)
    typer.echo(f"{out}: {len(grid.weights)} filters of {layer}, {scale.value} scale")
    for mark, which in (("dead", grid.dead), ("dominant", grid.dominant)):
        found = [str(number) for number, marked in enumerate(which) if marked]
        typer.echo(f"{mark}: {', '.join(found) or 'none'}")
