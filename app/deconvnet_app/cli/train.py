"""`deconvnet train`: a network of the zoo or one's own, on any folder of images."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvnet_app.cli.common import Data, Net, Quiet, example, load_dataset, resumable

if TYPE_CHECKING:
    from torch import nn

    from deconvnet.zoo import ModelSpec

EPILOG = example(
    "deconvnet train zfnet64 photos/train --validation photos/val --out runs/mine --epochs 20"
)


def command(
    net: Net,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run: weights, checkpoints, curves.")],
    validation: Annotated[
        Path | None, typer.Option(help="Images to measure the accuracy on after each epoch.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per step.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.0, help="Peak of the learning rate.")] = None,
    momentum: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0)] = None,
    shift: Annotated[
        int | None, typer.Option(min=0, help="Random crops reach so many pixels beyond the image.")
    ] = None,
    rms_clip: Annotated[
        float | None, typer.Option(help="Rescale convolution filters to this root mean square.")
    ] = None,
    no_rms_clip: Annotated[
        bool, typer.Option("--no-rms-clip", help="Never rescale filters.")
    ] = False,
    keep: Annotated[
        str, typer.Option(help="Epochs after which the weights are kept, beside the last.")
    ] = "1,2,4,8",
    checkpoint_every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between checkpoints to resume from.")
    ] = 120.0,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the weights, the order and the crops.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; the best there is.")] = None,
    names: Annotated[
        Path | None, typer.Option(help="Text file of lines 'folder<TAB>class name'.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a network on a folder of images.

    The recipe is the one that the network's file gives, as far as the options do not say otherwise.

    Stopped or killed, the same command goes on from the last checkpoint.
    """
    import torch

    from deconvnet import zoo
    from deconvnet.errors import DatasetError
    from deconvnet.training.recipe import TrainOptions
    from deconvnet.training.trainer import Trainer

    spec = zoo.find(net)
    given: dict[str, Any] = {
        "epochs": epochs, "batch": batch, "rate": rate, "momentum": momentum,
        "weight_decay": weight_decay, "shift": shift, "rms_clip": rms_clip,
    }  # fmt: skip
    recipe = replace(
        spec.recipe, **{key: value for key, value in given.items() if value is not None}
    )
    if no_rms_clip:
        recipe = replace(recipe, rms_clip=None)
    training = load_dataset(data)
    if len(training.labels) < 2:
        raise DatasetError(
            f"Dataset '{training.name}' has {len(training.labels)} labels, expected at least two. "
            "Put each class's images into a folder of its name."
        )
    held_out = load_dataset([validation]) if validation else None
    torch.manual_seed(seed)
    module = _build(spec, len(training.labels))
    options = TrainOptions(
        recipe=recipe,
        out=out,
        seed=seed,
        precision=precision,
        keep=_epochs(keep),
        checkpoint_every=checkpoint_every,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        progress=not quiet,
    )
    with resumable("The run so far"):
        final = Trainer(spec, module, training, held_out, options, _names(names)).run()
    typer.echo(f"Weights: {final}")
    typer.echo(f"Use them: deconvnet index {net} DATASET --weights {final} --out DIR")


def _build(spec: "ModelSpec", classes: int) -> "nn.Module":
    """The network with as many outputs as there are classes.

    Raises:
        ModelError: a network of one's own has a fixed, other number of outputs.
    """
    import inspect

    import torch

    from deconvnet.errors import ModelError

    if "classes" in inspect.signature(spec.build).parameters:
        return spec.build(classes=classes)
    module = spec.build()
    with torch.no_grad():
        outputs = module.eval()(torch.zeros(1, *spec.input_size)).shape[1]
    if outputs != classes:
        raise ModelError(
            f"'{spec.name}' has {outputs} outputs and the images have {classes} labels. "
            "Let its function take classes=N."
        )
    return module


def _epochs(text: str) -> tuple[int, ...]:
    from deconvnet.errors import ParameterError

    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ParameterError(f"--keep is '{text}', expected epochs such as 1,2,4,8.") from error


def _names(path: Path | None) -> dict[str, str] | None:
    """Display names of the classes, by folder; the first of several names is taken."""
    if path is None:
        return None
    rows = (line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) == 2}
