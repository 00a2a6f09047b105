"""`deconvnet index`: the images of a dataset that excite each unit most."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deconvnet_app.cli.common import (
    Data,
    Device,
    Net,
    Quiet,
    RayNetwork,
    RayNoToken,
    Weights,
    example,
    load_dataset,
    load_network,
    resumable,
)

if TYPE_CHECKING:
    from deconvnet.index.scan import Scanner
    from deconvnet.ops.base import Rule

EPILOG = example(
    "deconvnet index zfnet64 photos/ --out indexes/photos -k 9",
    "deconvnet index zfnet64 photos/ --out indexes/photos --backend ray --address 127.0.0.1:6379",
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
    rule: Annotated[
        str, typer.Option(help="Of those projections: deconv, guided or gradient.")
    ] = "deconv",
    autocast: Annotated[
        bool,
        typer.Option("--autocast", help="Scan in bfloat16: values keep two to three digits."),
    ] = False,
    weights: Weights = "DEFAULT",
    device: Device = None,
    backend: Annotated[
        str, typer.Option(help="Where images are scanned: here, or ray, on a cluster.")
    ] = "here",
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Ray cluster that is running.")
    ] = None,
    actors: Annotated[int, typer.Option(min=1, help="Of the cluster.")] = 1,
    ray_network: RayNetwork = False,
    ray_no_token: RayNoToken = False,
    quiet: Quiet = False,
) -> None:
    """Find and project the images that excite each unit most.

    Stopped or killed, the same command goes on from the last checkpoint.
    """
    import deconvnet as dn

    given = (net, None if weights.lower() == "none" else weights, device)
    scanner = _scanner(backend, address, given, actors, (ray_network, ray_no_token))
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
            rule=cast("Rule", rule),
            scanner=scanner,
            autocast=autocast,
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


def _scanner(
    backend: str,
    address: str | None,
    given: tuple[str, str | None, str | None],
    actors: int,
    said: tuple[bool, bool],
) -> "Scanner | None":
    """What scans; None: this process. `given`: network, weights and device."""
    from deconvnet.errors import ParameterError

    if backend == "here":
        return None
    if backend != "ray" or address is None:
        raise ParameterError(
            f"--backend is '{backend}' with --address {address}, expected 'here', or 'ray' with "
            "the address of a cluster that is running, such as 127.0.0.1:6379."
        )
    from deconvnet.index.shards import sharded
    from deconvnet_app.compute.backends.ray.cluster import Cluster
    from deconvnet_app.compute.backends.ray.scan import on_cluster

    return sharded(on_cluster(Cluster(address, *said), *given, actors))
