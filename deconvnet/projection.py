"""The deconvnet: one activation down to the pixels (Zeiler & Fergus 2013, section 2.1).

All other activations of the layer are set to zero and the maps go down, node by node in reverse:
unpool with the switches of the forward pass, rectify the reconstruction, filter with the transposed
kernels. Biases are left out; contrast normalisation is passed by; there is no rectifier at the
pixels. On a chain of convolutions, ReLUs and max-pools the projection of an activation of height h
is h times the gradient that autograd gives when each ReLU's backward is replaced by ReLU(grad).

Only what the activation can see is computed: at every node a patch that moves with its position,
many activations of one layer at a time, each with its own offset. Where branches meet, patches add;
beyond the border of a map there is nothing, so what lands there is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deconvnet.address import Unit
from deconvnet.errors import AddressError, ParameterError, ProjectionError
from deconvnet.forward import Record, check_input, record
from deconvnet.graph import INPUT
from deconvnet.network import Network
from deconvnet.ops.base import Rule, Way
from deconvnet.receptive import Plan, field, map_size, plan
from deconvnet.region import Patch, Region


@dataclass(frozen=True)
class Projection:
    """One activation as the network's input would show it.

    Attributes:
        pixels: [c, H, W], zero outside `region`, in the input's units times the activation's.
        region: (y0, x0, y1, x1), what the activation sees, clipped to the image.
        value: the activation's height.
        position: (y, x) in its layer's map.
    """

    unit: Unit
    pixels: Tensor
    region: tuple[int, int, int, int]
    value: float
    position: tuple[int, int]
    rule: str


@dataclass(frozen=True)
class _Crops:
    """Patches of one node's map for n activations: their tensor and each one's first (y, x)."""

    values: Tensor
    tops: tuple[int, ...]
    lefts: tuple[int, ...]


def _origins(patch: Patch, ys: Sequence[int], xs: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(patch.y.at(y) for y in ys), tuple(patch.x.at(x) for x in xs)


def _overlap(top: int, size: int, other: int, length: int) -> tuple[slice, slice]:
    """[top, top+size) and [other, other+length) in each one's own coordinates, where they meet."""
    start, end = max(top, other), min(top + size, other + length)
    end = max(start, end)
    return slice(start - top, end - top), slice(start - other, end - other)


def _slice(kept: Tensor, rows: Sequence[int], crops: _Crops, border: Any) -> Tensor:
    """What a node kept, cut out for each activation; `border` beyond the map."""
    height, width = kept.shape[-2:]
    h, w = crops.values.shape[-2:]
    if not any(crops.tops) and not any(crops.lefts) and (h, w) == (height, width):
        return kept if kept.shape[0] == 1 else kept[list(rows)]
    cut = kept.new_full((len(rows), kept.shape[1], h, w), border)
    for i, (row, top, left) in enumerate(zip(rows, crops.tops, crops.lefts, strict=True)):
        to_y, from_y = _overlap(top, h, 0, height)
        to_x, from_x = _overlap(left, w, 0, width)
        cut[i, :, to_y, to_x] = kept[row if kept.shape[0] > 1 else 0, :, from_y, from_x]
    return cut


def _add(into: _Crops, part: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> None:
    """Add patches that begin at (tops, lefts) where they meet `into`."""
    height, width = into.values.shape[-2:]
    h, w = part.shape[-2:]
    offsets = {
        (top - to_top, left - to_left)
        for top, to_top, left, to_left in zip(tops, into.tops, lefts, into.lefts, strict=True)
    }
    if len(offsets) == 1:
        dy, dx = offsets.pop()
        to_y, from_y = _overlap(0, height, dy, h)
        to_x, from_x = _overlap(0, width, dx, w)
        into.values[..., to_y, to_x] += part[..., from_y, from_x]
        return
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        to_y, from_y = _overlap(into.tops[i], height, top, h)
        to_x, from_x = _overlap(into.lefts[i], width, left, w)
        into.values[i, :, to_y, to_x] += part[i, :, from_y, from_x]


def _drop_outside(crops: _Crops, size: tuple[int, int]) -> None:
    """Zero what lies beyond the border of the map."""
    h, w = crops.values.shape[-2:]
    height, width = size
    for i, (top, left) in enumerate(zip(crops.tops, crops.lefts, strict=True)):
        if top < 0:
            crops.values[i, :, :-top] = 0
        if top + h > height:
            crops.values[i, :, height - top :] = 0
        if left < 0:
            crops.values[i, :, :, :-left] = 0
        if left + w > width:
            crops.values[i, :, :, width - left :] = 0


class _Descent:
    """One walk down for n activations of a layer of a recorded batch."""

    def __init__(
        self, net: Network, kept: dict[int, Tensor], way: Way, patches: Plan, rows: Sequence[int],
        ys: Sequence[int], xs: Sequence[int],
    ) -> None:  # fmt: skip
        self.net, self.kept, self.way = net, kept, way
        self.patches, self.rows, self.ys, self.xs = patches, rows, ys, xs
        self.crops: dict[int, _Crops] = {}

    def _empty(self, place: int, like: Tensor) -> _Crops:
        shape = self.net.nodes[place].shape
        if len(shape) == 1:
            tops = lefts = (0,) * len(self.rows)
            return _Crops(like.new_zeros(len(self.rows), *shape), tops, lefts)
        patch = self.patches[place]
        tops, lefts = _origins(patch, self.ys, self.xs)
        zeros = like.new_zeros(len(self.rows), shape[0], patch.y.size, patch.x.size)
        return _Crops(zeros, tops, lefts)

    def walk(self, place: int, seed: Tensor) -> _Crops:
        """From a seed [n, c, 1, 1] (or [n, features]) at `place` down to the input."""
        tops, lefts = (tuple(self.ys), tuple(self.xs)) if seed.dim() > 2 else ((0,) * len(seed),) * 2  # noqa: PLR2004
        self.crops[place] = _Crops(seed, tops, lefts)
        for above in range(place, INPUT, -1):
            if above in self.crops:
                self._descend(above)
        if INPUT not in self.crops:
            raise ProjectionError("The layer does not depend on the input.")
        return self.crops[INPUT]

    def _descend(self, above: int) -> None:
        node, crops = self.net.nodes[above], self.crops.pop(above)
        op = node.op
        assert op is not None
        saved = self.kept.get(above)
        if saved is not None and crops.values.dim() > 2:  # noqa: PLR2004 - a map
            saved = _slice(saved, self.rows, crops, op.gated_border)
        elif saved is not None:
            saved = saved[list(self.rows)]
        parts = op.descend(crops.values, saved, self.way)
        for below, part in zip(node.inputs, parts, strict=True):
            if op.window is None or part.dim() == 2:  # noqa: PLR2004 - a vector
                tops = lefts = (0,) * len(self.rows)
            else:
                moved = [
                    op.window.pull(Region(top, left, top + 1, left + 1))
                    for top, left in zip(crops.tops, crops.lefts, strict=True)
                ]
                tops, lefts = tuple(r.y0 for r in moved), tuple(r.x0 for r in moved)
            self._receive(below, part, tops, lefts)

    def _receive(self, below: int, part: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> None:
        if part.dim() == 2:  # noqa: PLR2004 - a vector
            if below in self.crops:
                part = self.crops[below].values + part
            self.crops[below] = _Crops(part, tuple(tops), tuple(lefts))
            return
        target = self.crops.get(below)
        if target is None:
            target = self._empty(below, part)
            same = target.tops == tuple(tops) and target.lefts == tuple(lefts)
            if same and target.values.shape == part.shape:
                target = _Crops(part, target.tops, target.lefts)
            else:
                _add(target, part, tops, lefts)
            self.crops[below] = target
        else:
            _add(target, part, tops, lefts)
        _drop_outside(self.crops[below], map_size(self.net.nodes[below].shape))


def _plan(net: Network, place: int) -> Plan:
    key = ("plan", place)
    if key not in net.cache:
        net.cache[key] = plan(net.nodes, place, limit=True)
    found: Plan = net.cache[key]
    return found


def _seed(net: Network, place: int, channels: Tensor, values: Tensor) -> Tensor:
    shape = net.nodes[place].shape
    seed = values.new_zeros(len(channels), shape[0])
    seed[torch.arange(len(channels)), channels] = values
    return seed if len(shape) == 1 else seed[:, :, None, None]


def descend_crops(
    net: Network, recorded: Record, layer: str, rows: Tensor, channels: Tensor, ys: Tensor,
    xs: Tensor, values: Tensor | None = None,
) -> tuple[Tensor, list[tuple[int, int]]]:  # fmt: skip
    """n activations of a recorded batch, down to what they see of the image.

    Args:
        rows, channels, ys, xs: int64 [n]; rows index the batch.
        values: what each is seeded with, [n]; None: its own height.

    Returns:
        (pixels [n, c, h, w], the first (y, x) of each crop, which may lie beyond the image).
    """
    place = net.find(layer)
    maps = recorded.activations[layer]
    if values is None:
        values = maps[rows, channels, ys, xs] if maps.dim() > 2 else maps[rows, channels]  # noqa: PLR2004
    if not torch.isfinite(values).all():
        raise ProjectionError(f"Layer '{layer}' has NaN or infinity among the activations.")
    descent = _Descent(
        net, recorded.kept, recorded.way, _plan(net, place), rows.tolist(), ys.tolist(), xs.tolist()
    )
    with torch.no_grad():
        crops = descent.walk(place, _seed(net, place, channels, values))
    return crops.values, list(zip(crops.tops, crops.lefts, strict=True))


def descend(
    net: Network, recorded: Record, layer: str, rows: Tensor, channels: Tensor, ys: Tensor,
    xs: Tensor, values: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """As `descend_crops`, on the whole image: [n, c, H, W], zero outside each receptive field."""
    crops, starts = descend_crops(net, recorded, layer, rows, channels, ys, xs, values)
    canvas = crops.new_zeros(len(crops), *net.input_size)
    whole = _Crops(canvas, (0,) * len(crops), (0,) * len(crops))
    _add(whole, crops, [top for top, _ in starts], [left for _, left in starts])
    return canvas


def strongest(maps: Tensor) -> tuple[int, int]:
    """(y, x) of a map's maximum; of equal ones the first, row by row. [h, w]."""
    place = int(maps.flatten().argmax())
    first = int((maps.flatten() == maps.flatten()[place]).nonzero()[0])
    return divmod(first, maps.shape[-1])


def _locate(net: Network, maps: Tensor, unit: Unit) -> tuple[int, int]:
    """Where in one image's maps [c, h, w] (or [features]) a unit is, checked."""
    shape = net.layer(unit.layer).shape
    if unit.channel >= shape[0]:
        raise AddressError(
            f"Unit '{unit}' does not exist: layer '{unit.layer}' has channels 0 to {shape[0] - 1}."
        )
    height, width = map_size(shape)
    if unit.y is None or unit.x is None:
        return strongest(maps[unit.channel].reshape(height, width))
    if unit.y >= height or unit.x >= width:
        raise AddressError(
            f"Unit '{unit}' lies outside layer '{unit.layer}', whose map is {height}×{width}."
        )
    return unit.y, unit.x


def project(
    net: Network, x: Tensor, unit: "str | Unit | Sequence[str | Unit]", rule: Rule = "deconv",
    *, lrn: str = "identity",
) -> "Projection | list[Projection]":  # fmt: skip
    """Project activations down to the pixels.

    Args:
        x: [n, c, H, W]; n = 1 for one image with any number of units, else one unit per image.
        unit: "conv5:7" (its strongest position) or "conv5:7@3,4"; a list gives a list back.
        rule: "deconv", "guided" or "gradient".
        lrn: what local response normalisation is on the way down: "identity" (ZF) or "gradient".

    Returns:
        A `Projection`, or a list in the order of the units.

    Raises:
        AddressError: no such unit. InputError: another shape of x. ProjectionError: NaN.
        ParameterError: an unknown rule, or numbers of images and units that do not pair.
    """
    single = isinstance(unit, str | Unit)
    units = [Unit.parse(u) for u in ([unit] if isinstance(unit, str | Unit) else unit)]
    x = check_input(net, x)
    if len(x) not in (1, len(units)):
        raise ParameterError(
            f"{len(x)} images and {len(units)} units do not pair; "
            "give one image, or as many images as units."
        )
    if not units:
        return []
    layers = list(dict.fromkeys(u.layer for u in units))
    recorded = record(net, x, layers, rule, lrn)
    found: dict[int, Projection] = {}
    for layer in layers:
        mine = [i for i, u in enumerate(units) if u.layer == layer]
        found.update(_project_layer(net, recorded, layer, units, mine, len(x) == 1))
    ordered = [found[i] for i in range(len(units))]
    return ordered[0] if single else ordered


def _project_layer(
    net: Network, recorded: Record, layer: str, units: Sequence[Unit], mine: Sequence[int],
    shared: bool,
) -> dict[int, Projection]:  # fmt: skip
    maps = recorded.activations[layer]
    rows = [0 if shared else i for i in mine]
    places = [
        _locate(net, maps[row], units[i]) for i, row in zip(mine, rows, strict=True)
    ]  # fmt: skip
    index = [torch.tensor(v, device=maps.device) for v in (
        rows, [units[i].channel for i in mine], [y for y, _ in places], [x for _, x in places],
    )]  # fmt: skip
    pixels = descend(net, recorded, layer, *index)
    found = {}
    for i, row, (y, x), picture in zip(mine, rows, places, pixels, strict=True):
        value = maps[row, units[i].channel]
        region = field(net, layer, y, x).clip(*net.input_size[1:])
        found[i] = Projection(
            units[i],
            picture,
            region.astuple(),
            float(value[y, x] if value.dim() else value),
            (y, x),
            recorded.way.rule,
        )
    return found
