"""`deconvnet occlude`: which part of a picture its class hangs on."""

from pathlib import Path
from typing import Annotated

import typer

from deconvnet_app.cli.common import Device, Net, Picture, Weights, example
from deconvnet_app.cli.explain import Out, run_method

EPILOG = example(
    "deconvnet occlude zfnet64 photo.png --size 16 --stride 4 --out occlusion",
    "deconvnet occlude vgg16 photo.png --class 'tiger cat' --fill blur",
)


def command(
    net: Net,
    image: Picture,
    asked: Annotated[
        str | None,
        typer.Option("--class", help="Number or name; the predicted class if not given."),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the occluder in pixels.")] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels between its positions.")] = None,
    fill: Annotated[
        str | None, typer.Option(help="grey, mean, black, blur or a colour such as #ff8800.")
    ] = None,
    out: Out = Path("occlusion"),
    weights: Weights = "DEFAULT",
    device: Device = None,
) -> None:
    """Map which parts of a picture its class hangs on.

    Writes the heatmap over the picture, the activity of the strongest layer-5 map, and the most
    probable class at each position.
    """
    run_method(
        "occlusion",
        {"size": size, "stride": stride, "fill": fill},
        net=net, image=image, asked=asked, out=out, weights=weights, device=device,
    )  # fmt: skip
