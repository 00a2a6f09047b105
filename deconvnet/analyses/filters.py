"""Filter grids and what is wrong with filters (Zeiler & Fergus 2013, section 4.1, figure 6).

A filter is dead where its root mean square is below a twentieth of the layer's median, dominant
where it is above three times the median: the paper's figure 6a shows what one such filter does to
a layer.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from deconvnet import render
from deconvnet.errors import AddressError, ParameterError, WeightsError
from deconvnet.graph.network import Network
from deconvnet.ops.conv import Conv

DEAD = 0.05  # of the median RMS
DOMINANT = 3.0  # times the median RMS
_COLOURS = 3


@dataclass(frozen=True)
class FilterGrid:
    """A convolution's kernels with their diagnostics.

    Attributes:
        layer, node: as asked for, and the convolution's call site.
        weights: [n, c, kh, kw]; c is the number of input channels of a group.
        rms: root mean square per filter, [n].
        dead, dominant: bool [n].
    """

    layer: str
    node: str
    weights: Tensor
    rms: Tensor
    dead: Tensor
    dominant: Tensor

    @property
    def coloured(self) -> bool:
        """Whether the filters look at RGB and so have colours of their own."""
        return self.weights.shape[1] == _COLOURS

    def scales(self, scale: Literal["own", "shared"]) -> list[render.Scale]:
        """The contrast of each filter: its own, or the one that fits them all."""
        if scale not in ("own", "shared"):
            raise ParameterError(f"scale is '{scale}', expected own or shared.")
        if scale == "own":
            return [render.own_scale(w, 1.0) for w in self.weights]
        return [render.shared_scale(list(self.weights), 1.0)] * len(self.weights)

    def tiles(self, scale: Literal["own", "shared"] = "own") -> list[render.Pixels]:
        """One picture per filter: in colour, or its input channels side by side (most first)."""
        pictures = []
        for weight, limits in zip(self.weights, self.scales(scale), strict=True):
            if self.coloured:
                pictures.append(render.signed(weight, limits))
            else:
                parts = [render.signed(channel[None], limits) for channel in weight]
                pictures.append(render.tiles(parts, columns=len(parts), gap=1))
        return pictures

    def picture(
        self, scale: Literal["own", "shared"] = "own", columns: int | None = None, zoom: int = 5
    ) -> render.Pixels:
        """All filters in one sheet, uint8 [h, w, 3]: a grid in colour, else a row per filter."""
        pictures = [np.kron(p, np.ones((zoom, zoom, 1), np.uint8)) for p in self.tiles(scale)]
        wide = columns or (max(1, round((2 * len(pictures)) ** 0.5)) if self.coloured else 1)
        return render.tiles(pictures, wide, gap=zoom // 2 + 1, background=255)

    def figure(self, scale: Literal["own", "shared"] = "own") -> Figure:
        """The sheet with the distribution of RMS beside it; dead and dominant filters are named."""
        figure = Figure(figsize=(11, 5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        left.imshow(self.picture(scale), interpolation="nearest")
        left.set_axis_off()
        left.set_title(f"{self.layer}: {len(self.rms)} filters, {scale} scale")
        order = self.rms.argsort(descending=True)
        right.bar(np.arange(len(order)), self.rms[order].numpy(), width=1.0)
        median = float(self.rms.median())
        right.axhline(
            DEAD * median, color="grey", linestyle=":", label=f"dead: {int(self.dead.sum())}"
        )
        right.axhline(
            DOMINANT * median, color="black", linestyle="--",
            label=f"dominant: {int(self.dominant.sum())}",
        )  # fmt: skip
        right.set(xlabel="filter, by rank", ylabel="RMS of its weights")
        right.legend()
        return figure


def convolution_of(net: Network, layer: str) -> tuple[str, Conv]:
    """The convolution that a layer is, or that leads to it through ReLU and normalisation.

    Raises:
        AddressError: there is none, or several (a concatenation, a sum).
    """
    place = net.find(layer)
    while True:
        node = net.nodes[place]
        if isinstance(node.op, Conv):
            return node.name, node.op
        if node.op is None or len(node.inputs) != 1:
            raise AddressError(
                f"Layer '{layer}' of {net.name} does not come from one convolution; "
                "name the convolution itself."
            )
        place = node.inputs[0]


def filters(net: Network, layer: str = "conv1") -> FilterGrid:
    """The kernels behind a layer, with diagnostics.

    Raises:
        AddressError: no such layer, or no single convolution behind it.
        WeightsError: NaN or infinity among the weights.
    """
    name, conv = convolution_of(net, layer)
    weights = conv.weight.detach().float().cpu()
    if not torch.isfinite(weights).all():
        raise WeightsError(f"Layer '{layer}' of {net.name} has NaN or infinity in its weights.")
    rms = weights.pow(2).mean(dim=(1, 2, 3)).sqrt()
    median = rms.median()
    return FilterGrid(layer, name, weights, rms, rms < DEAD * median, rms > DOMINANT * median)


__all__ = ["DEAD", "DOMINANT", "FilterGrid", "convolution_of", "filters"]
