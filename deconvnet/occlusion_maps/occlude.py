"""Occlusion: does the network look where it should? (Zeiler & Fergus 2013, section 4.2, figure 7)

A square is slid over the image. For each of its positions one forward pass gives the probability of
a class (figure 7d), the total activity of the layer-5 map that is strongest in the clean image
(7b), and the most probable label (7e).

Occluders overhang the border, from stride - size on, so that every pixel is covered equally often:
(size / stride)² times where stride divides size. A pixel's value is the mean over the occluders
that cover it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvnet.address import Unit
from deconvnet.errors import InputError, ParameterError
from deconvnet.execution.forward import check_input
from deconvnet.geometry.region import map_size
from deconvnet.graph.network import Network
from deconvnet.occlusion_maps.occluder import Occluder
from deconvnet.occlusion_maps.scorer import Passes, Scorer, after, choose
from deconvnet.precision import exact

_COARSEST = 4  # a progressive run begins with every fourth position


@dataclass(frozen=True)
class OcclusionMap:
    """What an occluder does at each of its positions.

    Attributes:
        probability: of the target class, [gy, gx], 0 to 1.
        activity: spatial sum of `unit`'s map, [gy, gx].
        label: the most probable class, int64 [gy, gx].
        positions: the occluders' first (y, x), int64 [gy, gx, 2], in pixels; they may be negative.
        target: the class that `probability` follows.
        unit: the map that `activity` follows.
        clean: probability, activity and label of the image without an occluder.
        shape: (H, W) of the image.
        strategy: how it was computed, and the multiply-adds that decided it.
    """

    probability: Tensor
    activity: Tensor
    label: Tensor
    positions: Tensor
    target: int
    unit: Unit
    clean: dict[str, float]
    occluder: Occluder
    shape: tuple[int, int]
    strategy: str

    @property
    def size(self) -> int:
        """Of the occluder, in pixels."""
        return self.occluder.size

    @property
    def stride(self) -> int:
        """Between occluders, in pixels."""
        return self.occluder.stride

    @property
    def fill(self) -> str:
        """What the occluder showed."""
        return self.occluder.fill

    def upsample(self, which: Literal["probability", "activity"] = "probability") -> Tensor:
        """[H, W]: for each pixel the mean over the occluders that cover it."""
        grid: Tensor = self.probability if which == "probability" else self.activity
        values = grid[None, None].to(torch.float64)
        both = torch.cat([values, torch.ones_like(values)], dim=0)
        kernel = values.new_ones(1, 1, self.size, self.size)
        spread = F.conv_transpose2d(both, kernel, stride=self.stride)
        first = self.size - self.stride
        part = spread[:, 0, first : first + self.shape[0], first : first + self.shape[1]]
        return (part[0] / part[1]).to(grid.dtype)


def _assemble(
    scorer: Scorer, values: Tensor, positions: Tensor, occluder: Occluder, x: Tensor, strategy: str
) -> OcclusionMap:
    if not torch.isfinite(values).all():
        raise InputError(
            f"{scorer.net.name} gives NaN or infinity for this image with a part of it hidden; "
            "check its weights."
        )
    grid = values.view(*positions.shape[:2], 3)
    names = ("probability", "activity", "label")
    clean = {name: float(v) for name, v in zip(names, scorer.clean, strict=True)}
    dtype = scorer.net.dtype if scorer.net.dtype == torch.float64 else torch.float32
    return OcclusionMap(
        grid[..., 0].to(dtype), grid[..., 1].to(dtype), grid[..., 2].long(), positions,
        scorer.target, scorer.unit, clean, occluder, (x.shape[2], x.shape[3]), strategy,
    )  # fmt: skip


def _grid(occluder: Occluder, x: Tensor) -> Tensor:
    ys, xs = (torch.tensor(occluder.starts(length)) for length in x.shape[2:])
    return torch.stack(torch.meshgrid(ys, xs, indexing="ij"), dim=-1)


def _levels(
    scorer: Scorer, x: Tensor, occluder: Occluder, passes: tuple[Passes, str],
    done: Callable[[int], None],
) -> Iterator[OcclusionMap]:  # fmt: skip
    """Maps of halving stride; what a coarse one has is not computed again."""
    known: dict[tuple[int, int], Tensor] = {}
    factor = _COARSEST
    while factor >= 1:
        level = replace(occluder, stride=occluder.stride * factor) if (
            occluder.stride * factor <= occluder.size) else None  # fmt: skip
        factor //= 2
        if level is None:
            continue
        positions = _grid(level, x)
        flat = [(y, x0) for y, x0 in positions.reshape(-1, 2).tolist()]
        missing = [place for place in flat if place not in known]
        if missing:
            base = len(known)
            values = passes[0](torch.tensor(missing), after(base, done))
            known.update(zip(missing, values, strict=True))
        yield _assemble(
            scorer, torch.stack([known[p] for p in flat]), positions, level, x, passes[1]
        )


@overload
def occlusion(
    net: Network, x: Tensor, target: int | None = None, size: int = 32, stride: int = 8,
    fill: str = "grey", unit: Unit | str | None = None, *, progressive: Literal[False] = False,
    strategy: str = "auto", on_progress: Callable[[int, int], None] | None = None,
) -> OcclusionMap: ...  # fmt: skip
@overload
def occlusion(
    net: Network, x: Tensor, target: int | None = None, size: int = 32, stride: int = 8,
    fill: str = "grey", unit: Unit | str | None = None, *, progressive: Literal[True],
    strategy: str = "auto", on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[OcclusionMap]: ...  # fmt: skip
@torch.no_grad()
@exact
def occlusion(
    net: Network, x: Tensor, target: int | None = None, size: int = 32, stride: int = 8,
    fill: str = "grey", unit: Unit | str | None = None, *, progressive: bool = False,
    strategy: str = "auto", on_progress: Callable[[int, int], None] | None = None,
) -> OcclusionMap | Iterator[OcclusionMap]:  # fmt: skip
    """Slide an occluder over one image.

    Args:
        x: [1, c, H, W] or [c, H, W].
        target: the class whose probability is followed; None: the predicted one.
        size, stride: of the occluder, in pixels; 1 ≤ stride ≤ size.
        fill: "grey", "mean", "black", "blur" or "#rrggbb".
        unit: the map whose activity is followed; None: that of conv5 (else the last landmark with
            maps) with the largest spatial sum in the clean image. A position is left out.
        progressive: yield maps of strides 4·stride, 2·stride and stride (as the size allows), each
            built on the one before, instead of returning the last.
        strategy: "plain" runs every occluded image through the whole network; "incremental"
            recomputes only what changes; "auto" chooses by counted multiply-adds.
        on_progress: called with (positions done, positions in all).

    Raises:
        ParameterError: a value outside its range. InputError: not one image of the right shape.
        AddressError: no such unit.
    """
    occluder = Occluder(size, stride, fill)
    x = check_input(net, x)
    if len(x) != 1:
        raise InputError(f"Occlusion takes one image, not {len(x)}; call it once for each.")
    if occluder.size > max(map_size(net.input_size)):
        raise ParameterError(
            f"size is {size}, larger than the image of {x.shape[2]}×{x.shape[3]} pixels."
        )
    scorer = Scorer(net, x, target, unit)
    positions = _grid(occluder, x)
    total = positions.shape[0] * positions.shape[1]

    def done(count: int) -> None:
        if on_progress is not None:
            on_progress(count, total)

    starts = positions.reshape(-1, 2)
    passes = choose(scorer, x, occluder.picture(net, x), occluder.size, starts, strategy)
    if progressive:
        return _levels(scorer, x, occluder, passes, done)
    return _assemble(scorer, passes[0](starts, done), positions, occluder, x, passes[1])
