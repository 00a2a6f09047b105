"""`deconvnet evaluate`: accuracy on labelled images."""

from typing import Annotated

import typer

from deconvnet_app.cli.common import (
    Data,
    Device,
    Net,
    Quiet,
    Weights,
    example,
    load_dataset,
    load_network,
)

EPILOG = example("deconvnet evaluate zfnet64 photos/val --weights runs/mine/zfnet64.safetensors")


def command(
    net: Net,
    data: Data,
    weights: Weights = "DEFAULT",
    device: Device = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 128,
    quiet: Quiet = False,
) -> None:
    """Measure top-1 and top-5 accuracy on labelled images.

    Each image lies in a folder named after its class.
    """
    from deconvnet.errors import DatasetError
    from deconvnet.training.evaluate import evaluate

    network = load_network(net, weights, device)
    dataset = load_dataset(data)
    labels = network.labels or network.classes
    if not labels:
        raise DatasetError(
            f"'{network.name}' does not know its classes. Give weights of `deconvnet train`."
        )
    first, five = evaluate(
        network.module, network.preprocess, dataset, list(labels), batch=batch, progress=not quiet
    )
    typer.echo(f"{len(dataset)} images  top-1 {first:.2f} %  top-5 {five:.2f} %")
