"""What occluded images score: two ways that agree, and the choice between them.

`WholePasses` runs every occluded image through the whole network. `IncrementalPasses` recomputes
only what an occluder changes (`incremental`); it is exact, and pays where multiply-adds say so.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from deconvnet.address import Unit, natural
from deconvnet.errors import AddressError, InputError, ParameterError
from deconvnet.execution.batches import batch_size, in_batches
from deconvnet.execution.executor import needed
from deconvnet.execution.forward import capture, whole_maps
from deconvnet.execution.free_memory import give_back
from deconvnet.execution.patches import overlap
from deconvnet.geometry.push import Extents
from deconvnet.geometry.region import INPUT
from deconvnet.graph.network import Network
from deconvnet.graph.nodes import map_cells, multiply_adds, on_vectors
from deconvnet.occlusion_maps.batches import BATCH, grouped
from deconvnet.occlusion_maps.incremental import Clean, Incremental
from deconvnet.ops.activation import Sigmoid
from deconvnet.ops.linear import Head
from deconvnet.precision import exact

_BATCH = 32  # whole images at a time; more gain nothing on a CPU
_WORTH = 1.3  # times fewer multiply-adds before gathering patches pays


def _head(net: Network) -> Callable[[Tensor], Tensor]:
    """From the network's output to probabilities."""
    last = net.nodes[-1].op
    if isinstance(last, Sigmoid):
        return lambda y: y
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
        if net.nodes[-1].shape == (1,) and not isinstance(net.nodes[-1].op, Head | Sigmoid):
            raise ParameterError(
                f"{net.name} gives one score per image, whose softmax is always 1; end it with "
                "nn.Sigmoid() for a probability."
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
        wanted = int(scores[0].argmax()) if target is None else natural(target)
        if wanted is None or wanted >= classes:
            raise ParameterError(f"target is {target!r}, expected a class from 0 to {classes - 1}.")
        self.target = wanted
        self.unit = Unit(chosen.layer, chosen.channel)
        self.places = (net.find(layer), len(net.nodes) - 1)
        self.clean = self.of(found[self.output], found[layer])[0]

    def of(self, output: Tensor, maps: Tensor) -> Tensor:
        """[n, 3] from the network's output and the unit's layer, [n, c, h, w] or [n, c]."""
        followed = maps[:, self.unit.channel]
        return self.table(output, followed.flatten(1).sum(1) if followed.dim() > 1 else followed)

    def table(self, output: Tensor, activity: Tensor) -> Tensor:
        """[n, 3] from the network's output and the followed map's sum, [n]."""
        scores = self.probabilities(output)
        columns = (scores[:, self.target], activity, output.argmax(1))
        return torch.stack([column.cpu().double() for column in columns], dim=1)

    def __call__(self, batch: Tensor) -> Tensor:
        found = capture(self.net, batch, [self.unit.layer, self.output])
        return self.of(found[self.output], found[self.unit.layer])


def _paste(x: Tensor, fill: Tensor, starts: Tensor, size: int) -> Tensor:
    """One copy of the image per occluder: [n, c, H, W]."""
    copies = x.expand(len(starts), -1, -1, -1).clone(memory_format=torch.channels_last)
    height, width = x.shape[2:]
    for copy, (top, left) in zip(copies, starts.tolist(), strict=True):
        rows, columns = overlap(0, height, top, size)[0], overlap(0, width, left, size)[0]
        copy[:, rows, columns] = fill[0, :, rows, columns]
    return copies


class WholePasses:
    """Every occluded image runs through the whole network: the oracle of the other way."""

    def __init__(self, scorer: Scorer, x: Tensor, fill: Tensor, size: int) -> None:
        self.scorer, self.x, self.fill, self.size = scorer, x, fill, size

    @exact
    def __call__(self, starts: Tensor, done: Callable[[int], None]) -> Tensor:
        net = self.scorer.net
        batch = min(_BATCH, batch_size(net.nodes, net.dtype, net.device))
        return in_batches(
            len(starts), batch,
            lambda part: self.scorer(_paste(self.x, self.fill, starts[part], self.size)), done,
        )  # fmt: skip


class IncrementalPasses:
    """Only what an occluder changes is recomputed, from the clean activations; exact."""

    def __init__(self, scorer: Scorer, x: Tensor, fill: Tensor, size: int) -> None:
        net = scorer.net
        self.scorer, self.fill, self.size = scorer, fill, size
        self.layer, self.last = scorer.places
        order = needed(net.nodes, scorer.places)
        self.tail = on_vectors(net.nodes, order)
        self.body = [place for place in order if place not in self.tail]
        feeding = {i for place in self.tail for i in net.nodes[place].inputs}
        self.features = sorted((feeding & set(self.body)) or {self.last})
        self.followed = [place for place in (self.layer,) if place in self.body]
        self.clean = Clean(net, x, self.body)
        give_back()

    @exact
    def __call__(self, starts: Tensor, done: Callable[[int], None]) -> Tensor:
        net = self.scorer.net
        each = sum(net.nodes[place].shape[0] for place in self.features)
        together = self.clean.share // (each * self.clean.maps[INPUT].element_size())
        return in_batches(
            len(starts), max(1, together),
            lambda part: self._chunk(starts[part], after(part.start, done)),
        )  # fmt: skip

    def _chunk(self, starts: Tensor, done: Callable[[int], None]) -> Tensor:
        """[n, 3]: the maps in groups of equal patches, then the fully connected layers at once."""
        nodes = self.scorer.net.nodes
        sizes = [nodes[place].shape[0] for place in self.features]
        values = self.fill.new_empty(len(starts), sum(sizes) + len(self.followed))
        count = 0
        for group in grouped(nodes, self.body, *_rectangles(starts, self.size)):
            work = Incremental(self.clean, group.changes)
            fits = min(BATCH, max(1, self.clean.share // max(1, work.bytes_each())))
            even = -(-len(group.members) // -(-len(group.members) // fits))
            values[torch.from_numpy(group.members)] = in_batches(
                len(group.members), even, partial(self._batch, work), after(count, done)
            )
            count += len(group.members)
        return self._finish(values, sizes)

    def _batch(self, work: Incremental, part: slice) -> Tensor:
        """[n, features (+ 1)]: what the classifier sees, and the sum of a followed map below it."""
        found = work.run(part, self.fill, [*self.features, *self.followed])
        channel = self.scorer.unit.channel
        sums = [work.channel_sum(place, found[place], part, channel) for place in self.followed]
        columns = [found[place] for place in self.features]
        return torch.cat([*columns, *(each[:, None] for each in sums)], dim=1)

    def _finish(self, values: Tensor, sizes: list[int]) -> Tensor:
        columns = torch.split(values, [*sizes, *(1 for _ in self.followed)], dim=1)
        known = dict(zip(self.features, columns, strict=False))
        found = whole_maps(self.scorer.net.nodes, self.tail, known)
        if self.followed:
            return self.scorer.table(found[self.last], columns[-1][:, 0])
        return self.scorer.of(found[self.last], found[self.layer])


def _rectangles(starts: Tensor, size: int) -> tuple[Extents, Extents]:
    """(start, end) along y and along x of squares that begin at `starts`, [n, 2]."""
    y, x = starts.numpy().T
    return (y, y + size), (x, x + size)


Passes = WholePasses | IncrementalPasses


def choose(
    scorer: Scorer, x: Tensor, fill: Tensor, size: int, starts: Tensor, strategy: str
) -> tuple[Passes, str]:
    """How to run, and what to say of it: incremental where multiply-adds say that it pays.

    Args:
        x, fill: the image and what shows inside a square, [1, c, H, W] each.
        size, starts: of the squares, in pixels; [n, 2] of (y, x).
        strategy: "auto", "plain" or "incremental".
    """
    if strategy not in ("auto", "plain", "incremental"):
        raise ParameterError(f"strategy is '{strategy}', expected auto, plain or incremental.")
    nodes = scorer.net.nodes
    order = needed(nodes, scorer.places)
    groups = grouped(nodes, order, *_rectangles(starts, size))
    here = sum(
        len(g.members) * multiply_adds(nodes, {i: change.cells for i, change in g.changes.items()})
        for g in groups
    )
    saving = len(starts) * multiply_adds(nodes, map_cells(nodes, order)) / max(1, here)
    says = f"{saving:.1f}× fewer multiply-adds than whole passes"
    if strategy == "incremental" or (strategy == "auto" and saving >= _WORTH):
        changes = IncrementalPasses(scorer, x, fill, size)
        layers = len(changes.clean.by_winograd)
        says += f"; Winograd's algorithm in up to {layers} layers" if layers else ""
        return changes, f"incremental, {says}"
    return WholePasses(scorer, x, fill, size), f"plain; incremental would take {says}"


def after(base: int, done: Callable[[int], None]) -> Callable[[int], None]:
    """`done`, for work that comes after `base` positions."""
    return lambda count: done(base + count)
