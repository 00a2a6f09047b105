"""Occlusion: does the network look where it should? (Zeiler & Fergus 2013, section 4.2, figure 7)

A square is slid over the image. For each of its positions one forward pass gives the probability of
a class (figure 7d), the total activity of the layer-5 map that is strongest in the clean image
(7b), and the most probable label (7e).

Occluders overhang the border, from stride - size on, so that every pixel is covered equally often:
(size / stride)² times where stride divides size. A pixel's value is the mean over the occluders
that cover it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from deconvnet.address import Unit
from deconvnet.errors import AddressError, InputError, ParameterError
from deconvnet.forward import capture, check_input, needed
from deconvnet.incremental import Clean, Incremental, multiply_adds, plan_changes
from deconvnet.memory import batch_size, budget, in_batches
from deconvnet.network import Network
from deconvnet.ops.linear import Head
from deconvnet.receptive import map_size

FILLS = ("grey", "mean", "black", "blur")
_COARSEST = 4  # a progressive run begins with every fourth position
_BATCH = 32  # occluders at a time; more gain nothing on a CPU
_WORTH = 1.3  # times fewer multiply-adds before gathering patches pays


@dataclass(frozen=True)
class Occluder:
    """A square and where it goes.

    Attributes:
        size, stride: pixels; 1 ≤ stride ≤ size.
        fill: "grey" (mid-grey), "mean" (the image's mean colour), "black", "blur" (the image out of
            focus) or a colour "#rrggbb".
    """

    size: int = 32
    stride: int = 8
    fill: str = "grey"

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.size:
            raise ParameterError(
                f"stride is {self.stride} for an occluder of size {self.size}; expected 1 to the "
                "size, or some pixels are never covered."
            )
        if self.fill not in FILLS and not re.fullmatch(r"#[0-9a-fA-F]{6}", self.fill):
            raise ParameterError(
                f"fill is '{self.fill}', expected one of {', '.join(FILLS)}, or '#rrggbb'."
            )

    def starts(self, length: int) -> list[int]:
        """Where occluders begin along an axis of the image, in pixels; the first lie beyond it."""
        return list(range(self.stride - self.size, length, self.stride))

    def picture(self, net: Network, x: Tensor) -> Tensor:
        """What shows inside the square, as [1, c, H, W] in the network's units."""
        if self.fill == "mean":
            return x.mean(dim=(2, 3), keepdim=True).expand_as(x)
        if self.fill == "blur":
            sigma = max(self.size / 4, 1.0)
            reach = min(int(3 * sigma), min(x.shape[2:]) - 1)
            blurred: Tensor = gaussian_blur(x, [2 * reach + 1] * 2, [sigma, sigma])
            return blurred
        if self.fill == "grey":
            colour = (0.5, 0.5, 0.5)
        elif self.fill == "black":
            colour = (0.0, 0.0, 0.0)
        else:
            r, g, b = (int(self.fill[i : i + 2], 16) / 255 for i in (1, 3, 5))
            colour = (r, g, b)
        values = torch.tensor(net.preprocess.colour(colour), dtype=x.dtype, device=x.device)
        return values.view(1, 3, 1, 1).expand_as(x)


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


def _head(net: Network) -> Callable[[Tensor], Tensor]:
    """From the network's output to probabilities."""
    last = net.nodes[-1].op
    if isinstance(last, Head):
        return torch.exp if last.name == "log-softmax" else lambda y: y
    return lambda y: y.softmax(1)


def _layer_five(net: Network) -> str:
    maps = [name for name in net.landmarks if len(net.layer(name).shape) == 3]
    if not maps:
        raise ParameterError(f"{net.name} has no landmark with a map; give unit='layer:channel'.")
    return "conv5" if "conv5" in maps else maps[-1]


class Scorer:
    """The three outputs for a batch, from one pass: [n, 3] of probability, activity, label."""

    def __init__(
        self, net: Network, x: Tensor, target: int | None, unit: Unit | str | None
    ) -> None:
        self.net = net
        self.output = net.nodes[-1].name
        if len(net.nodes[-1].shape) != 1:
            raise ParameterError(
                f"{net.name} gives {list(net.nodes[-1].shape)} per image, expected one score per "
                "class; occlusion needs a classifier."
            )
        self.probabilities = _head(net)
        chosen = None if unit is None else Unit.parse(unit)
        layer = _layer_five(net) if chosen is None else chosen.layer
        found = capture(net, x, [layer, self.output])
        maps = found[layer].flatten(2).sum(2) if found[layer].dim() > 2 else found[layer]
        if chosen is None:
            chosen = Unit(layer, int(maps[0].argmax()))
        if chosen.channel >= maps.shape[1]:
            raise AddressError(
                f"Unit '{chosen}' does not exist: '{layer}' has channels 0 to {maps.shape[1] - 1}."
            )
        scores = self.probabilities(found[self.output])
        if not torch.isfinite(scores).all():
            raise InputError(f"{net.name} gives NaN or infinity for this image; check its weights.")
        classes = scores.shape[1]
        if target is not None and not 0 <= target < classes:
            raise ParameterError(f"target is {target}, expected a class from 0 to {classes - 1}.")
        self.target = int(scores[0].argmax()) if target is None else int(target)
        self.unit = Unit(chosen.layer, chosen.channel)
        self.clean = self.of(found[self.output], found[layer])[0]

    def of(self, output: Tensor, maps: Tensor) -> Tensor:
        """[n, 3] from the network's output and the unit's layer, [n, c, h, w] or [n, c]."""
        followed = maps[:, self.unit.channel]
        return self.table(output, followed.flatten(1).sum(1) if followed.dim() > 1 else followed)

    def table(self, output: Tensor, activity: Tensor) -> Tensor:
        """[n, 3] from the network's output and the followed map's sum, [n]."""
        scores = self.probabilities(output)
        label = output.argmax(1).to(scores.dtype)
        return torch.stack([scores[:, self.target], activity, label], dim=1).double().cpu()

    def __call__(self, batch: Tensor) -> Tensor:
        found = capture(self.net, batch, [self.unit.layer, self.output])
        return self.of(found[self.output], found[self.unit.layer])


def _paste(x: Tensor, fill: Tensor, starts: Tensor, size: int) -> Tensor:
    """One copy of the image per occluder: [n, c, H, W]."""
    copies = x.repeat(len(starts), 1, 1, 1)
    for copy, (y, x0) in zip(copies, starts.tolist(), strict=True):
        rows, columns = slice(max(y, 0), max(y + size, 0)), slice(max(x0, 0), max(x0 + size, 0))
        copy[:, rows, columns] = fill[0, :, rows, columns]
    return copies


class _Plain:
    """Every occluded image runs through the whole network: the oracle of the other way."""

    def __init__(self, scorer: Scorer, x: Tensor, occluder: Occluder) -> None:
        self.scorer, self.x, self.size = scorer, x, occluder.size
        self.fill = occluder.picture(scorer.net, x)

    def __call__(self, starts: Tensor, done: Callable[[int], None]) -> Tensor:
        net = self.scorer.net
        batch = min(_BATCH, batch_size(net.nodes, net.dtype, net.device))
        return in_batches(
            len(starts), batch,
            lambda part: self.scorer(_paste(self.x, self.fill, starts[part], self.size)), done,
        )  # fmt: skip


class _Changes:
    """Only what an occluder changes is recomputed, from the clean activations; exact."""

    def __init__(self, scorer: Scorer, x: Tensor, occluder: Occluder) -> None:
        net = scorer.net
        self.scorer, self.size = scorer, occluder.size
        self.fill = occluder.picture(net, x)
        self.places = (net.find(scorer.unit.layer), len(net.nodes) - 1)
        self.clean = Clean(net, x, needed(net, self.places))

    def plan(self, starts: Tensor) -> Incremental:
        y, x = starts.numpy()[:, 0], starts.numpy()[:, 1]
        return Incremental(self.clean, (y, y + self.size), (x, x + self.size))

    def __call__(self, starts: Tensor, done: Callable[[int], None]) -> Tensor:
        work = self.plan(starts)
        batch = budget(self.scorer.net.device) // max(1, work.bytes_each())
        return in_batches(
            len(starts), max(1, min(_BATCH, batch)), lambda part: self._batch(work, part), done
        )

    def _batch(self, work: Incremental, part: slice) -> Tensor:
        layer, last = self.places
        found = work.run(part, self.fill, self.places)
        activity = work.channel_sum(layer, found[layer], part, self.scorer.unit.channel)
        return self.scorer.table(found[last], activity)


def _way(
    scorer: Scorer, x: Tensor, occluder: Occluder, starts: Tensor, strategy: str
) -> tuple[_Plain | _Changes, str]:
    """How to run, and what to say of it: incremental where multiply-adds say that it pays."""
    if strategy not in ("auto", "plain", "incremental"):
        raise ParameterError(f"strategy is '{strategy}', expected auto, plain or incremental.")
    order = needed(scorer.net, (scorer.net.find(scorer.unit.layer), len(scorer.net.nodes) - 1))
    y, x0 = starts.numpy()[:, 0], starts.numpy()[:, 1]
    changes = plan_changes(
        scorer.net.nodes, order, (y, y + occluder.size), (x0, x0 + occluder.size)
    )
    full = multiply_adds(scorer.net.nodes, order, None)
    saving = full / max(1, multiply_adds(scorer.net.nodes, order, changes))
    says = f"{saving:.1f}× fewer multiply-adds than whole passes"
    if strategy == "incremental" or (strategy == "auto" and saving >= _WORTH):
        return _Changes(scorer, x, occluder), f"incremental, {says}"
    return _Plain(scorer, x, occluder), f"plain; incremental would take {says}"


def _assemble(
    scorer: Scorer, values: Tensor, positions: Tensor, occluder: Occluder, x: Tensor, strategy: str
) -> OcclusionMap:
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


def _after(base: int, done: Callable[[int], None], count: int) -> None:
    done(base + count)


def _levels(
    scorer: Scorer, x: Tensor, occluder: Occluder, way: tuple[_Plain | _Changes, str],
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
            values = way[0](torch.tensor(missing), partial(_after, base, done))
            known.update(zip(missing, values, strict=True))
        yield _assemble(scorer, torch.stack([known[p] for p in flat]), positions, level, x, way[1])


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
            maps) with the largest spatial sum in the clean image.
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
    if size > max(map_size(net.input_size)):
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
    way = _way(scorer, x, occluder, starts, strategy)
    if progressive:
        return _levels(scorer, x, occluder, way, done)
    return _assemble(scorer, way[0](starts, done), positions, occluder, x, way[1])
