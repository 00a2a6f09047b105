"""`deconvnet index`: the images of a dataset that excite each unit most."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.common import (
    Data,
    Device,
    Net,
    Quiet,
    Weights,
    example,
    load_dataset,
    load_network,
    resumable,
)

EPILOG = example(
    "deconvnet index zfnet64 photos/ --out indexes/photos -k 9",
    "deconvnet index vgg16 frames.tar --out indexes/frames --group-by folder --per-group 1",
)


def command(
    net: Net,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Hits kept per unit.")] = 9,
    layers: Annotated[
        str | None, typer.Option(help="Layers, by commas; all landmarks if not given.")
    ] = None,
    per_group: Annotated[
        int | None, typer.Option(min=1, help="Most hits of a unit from one group of images.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="What makes a group: 'folder', or a regular expression whose parenthesis "
            "is the group's name."
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding threads.")] = None,
    sprites: Annotated[
        bool, typer.Option(help="Project the winners and store their pictures.")
    ] = True,
    weights: Weights = "DEFAULT",
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Find and project the images that excite each unit most.

    Stopped or killed, the same command goes on from the last checkpoint.
    """
    import deconvnet as dn

    network = load_network(net, weights, device)
    dataset = load_dataset(data, group_by)
    sizes: dict[str, Any] = {"batch": batch, "workers": workers}
    with resumable("The index so far"):
        index = dn.build_index(
            network,
            dataset,
            out,
            k=k,
            layers=layers.split(",") if layers else None,
            per_group=per_group,
            progress=not quiet,
            sprites=sprites,
            **{key: value for key, value in sizes.items() if value is not None},
        )
    typer.echo(
        f"{out}: {index.dataset['count']} images, layers {', '.join(index.layers)}, "
        f"{index.k} hits per unit"
    )
    skipped = index.dataset["skipped"]
    for item in skipped:
        typer.echo(f"skipped {item['path']}: {item['reason']}", err=True)
    typer.echo(f"{len(skipped)} images skipped")
    typer.echo(f"Browse it: deconvnet serve --index {out}")
