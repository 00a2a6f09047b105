"""`deconvnet models`: the zoo."""

from typing import Annotated

import typer

from deconvnet_app.cli.common import Device, Weights, example, load_network, print_table

EPILOG = example("deconvnet models", "deconvnet models vgg16 --weights none")


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NET]", help="Show this network's layers.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show all layers, not the landmarks alone.")
    ] = False,
    weights: Weights = "none",
    device: Device = "cpu",
) -> None:
    """List the zoo, or one network's layers."""
    if name is None:
        _list()
        return
    net = load_network(name, weights, device)
    size = "×".join(str(side) for side in net.input_size)
    typer.echo(f"{net.name}  input {size}  {len(net.classes or ())} classes")
    rows = [
        (
            layer.name,
            layer.node,
            "×".join(str(side) for side in layer.shape),
            f"{layer.receptive_field} px",
            str(layer.jump),
        )
        for layer in net.layers.values()
        if every or layer.name in net.landmarks
    ]
    print_table(
        {"layer": "left", "node": "left", "shape": "left", "field": "right", "jump": "right"}, rows
    )


def _list() -> None:
    from deconvnet import zoo

    for name in zoo.names():
        spec = zoo.find(name)
        if zoo.shipped(name):
            origin = "shipped with the program"
        elif spec.fetch is not None:
            origin = "downloaded by torchvision when first asked for"
        else:
            origin = "none: give a file, or train them"
        size = "×".join(str(side) for side in spec.input_size)
        typer.echo(f"{name}")
        typer.echo(f"  {spec.title}, input {size}")
        typer.echo(f"  landmarks  {' '.join(spec.landmarks)}")
        typer.echo(f"  weights    {origin}")
        typer.echo(f"  licence    {spec.licence}")
        typer.echo(f"  source     {spec.source}")
