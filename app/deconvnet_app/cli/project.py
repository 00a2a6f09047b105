"""`deconvnet project`: what in a picture excites a unit."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet_app.cli.common import Device, Net, Picture, Weights, example
from deconvnet_app.cli.explain import Out, run_method

EPILOG = example("deconvnet project zfnet64 photo.png conv5:7 --out projection")


def command(
    net: Net,
    image: Picture,
    unit: Annotated[
        str, typer.Argument(metavar="UNIT", help="Such as conv5:7, or conv5:7@3,4 for a position.")
    ],
    rule: Annotated[
        str, typer.Option(help="What rectifies on the way down: deconv, guided or gradient.")
    ] = "deconv",
    out: Out = Path("projection"),
    weights: Weights = "DEFAULT",
    device: Device = None,
) -> None:
    """Project one activation of a unit down to the pixels.

    Writes the projection, and beside it the patch of the picture that the activation saw.
    """
    run_method(
        rule, {}, net=net, image=image, unit=unit, out=out, weights=weights, device=device
    )  # fmt: skip
