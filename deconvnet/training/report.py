"""What a training leaves behind: pictures of it, and its weights."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from deconvnet import render
from deconvnet.importers.checkpoints import read_weights, save_weights


def first_layer_picture(module: nn.Module) -> Image.Image | None:
    """The first convolution's filters in colour, each on its own scale; None if it is not RGB."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.weight.shape[1] != 3:
        return None
    pictures = [render.enlarge(render.signed(w, render.own_scale(w, 1.0)), 36)
                for w in first.weight.detach()]  # fmt: skip
    return Image.fromarray(render.tiles(pictures, 16, gap=1))


def learning_curve(history: list[dict[str, float]]) -> Figure:
    """Loss and accuracy by epoch."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.array([row["epoch"] for row in history])
    left.plot(epochs, [row["loss"] for row in history], marker=".", label="training")
    left.set(xlabel="epoch", ylabel="cross-entropy", title="Loss")
    right.plot(epochs, [row["train_top1"] for row in history], marker=".", label="training top-1")
    if all("top1" in row for row in history):
        right.plot(epochs, [row["top1"] for row in history], marker=".", label="validation top-1")
        right.plot(epochs, [row["top5"] for row in history], marker=".", label="validation top-5")
    right.set(xlabel="epoch", ylabel="accuracy, %", title="Accuracy", ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def export_half(path: Path, source: Path, *, only_convolutions: bool = False) -> None:
    """Copy weights as float16, all of them or those of the convolutions."""
    state, metadata = read_weights(source)
    kept = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if not only_convolutions or name.startswith("conv")
    }
    save_weights(path, kept, metadata)
