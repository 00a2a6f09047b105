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

import torch
from torch import Tensor

from deconvnet.address import Unit
from deconvnet.crops import Crops, add, blank, cut, drop_outside, origins
from deconvnet.errors import AddressError, ParameterError, ProjectionError
from deconvnet.forward import Record, check_input, record
from deconvnet.graph import INPUT
from deconvnet.local import multiply_adds, record_local
from deconvnet.memory import budget, chunks
from deconvnet.network import Network
from deconvnet.ops.base import Op, Rule, Way
from deconvnet.receptive import Plan, field, map_size, plan
from deconvnet.region import Region

_LIMIT = 64  # activations at a time; more gain nothing


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


def _is_map(values: Tensor) -> bool:
    """Whether this is [n, c, h, w], which has regions; anything else goes down whole."""
    return values.dim() == 4


class _Descent:
    """One walk down for n activations of a layer of a recorded batch."""

    def __init__(
        self, net: Network, kept: dict[int, Tensor], way: Way, patches: Plan, rows: Sequence[int],
        ys: Sequence[int], xs: Sequence[int], *, local: bool = False,
    ) -> None:  # fmt: skip
        self.net, self.kept, self.way, self.local = net, kept, way, local
        self.patches, self.rows, self.ys, self.xs = patches, rows, ys, xs
        self.crops: dict[int, Crops] = {}

    def _empty(self, place: int, like: Tensor) -> Crops:
        patch = self.patches[place]
        tops, lefts = origins(patch, self.ys, self.xs)
        zeros = blank(like, len(self.rows), (patch.y.size, patch.x.size))
        return Crops(zeros, tops, lefts)

    def walk(self, place: int, seed: Tensor) -> Crops:
        """From a seed [n, c, 1, 1] (or [n, features]) at `place` down to the input."""
        self._receive(place, seed, self.ys, self.xs)
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
        if saved is not None and not self.local:
            saved = self._own(saved, crops, op)
        parts = op.descend(crops.values, saved, self.way)
        for below, part in zip(node.inputs, parts, strict=True):
            if op.window is None or not _is_map(part):
                tops = lefts = (0,) * len(self.rows)
            else:
                moved = [
                    op.window.pull(Region(top, left, top + 1, left + 1))
                    for top, left in zip(crops.tops, crops.lefts, strict=True)
                ]
                tops, lefts = tuple(r.y0 for r in moved), tuple(r.x0 for r in moved)
            self._receive(below, part, tops, lefts)

    def _own(self, saved: Tensor, crops: Crops, op: Op) -> Tensor:
        """Of what a node kept of the batch, each activation's part."""
        if _is_map(crops.values):
            return cut(saved, self.rows, crops, op.gated_border)
        return saved[list(self.rows)] if len(saved) > 1 else saved

    def _receive(self, below: int, part: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> None:
        """Add what comes down to a node, on the part of its map that the plan gives it."""
        target = self.crops.get(below)
        if not _is_map(part):
            values = part if target is None else target.values + part
            self.crops[below] = Crops(values, tuple(tops), tuple(lefts))
            return
        if target is None:
            target = self._empty(below, part)
            same = target.tops == tuple(tops) and target.lefts == tuple(lefts)
            if same and target.values.shape == part.shape:
                target = Crops(part, target.tops, target.lefts)
            else:
                add(target, part, tops, lefts)
            self.crops[below] = target
        else:
            add(target, part, tops, lefts)
        drop_outside(self.crops[below], map_size(self.net.nodes[below].shape))


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
        values = maps[rows, channels, ys, xs] if _is_map(maps) else maps[rows, channels]
    _check_finite(layer, values)
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
    return _canvas(net, Crops(crops, *zip(*starts, strict=True)))


def _canvas(net: Network, crops: Crops) -> Tensor:
    """Patches of pixels on images of their own, zero elsewhere."""
    n = len(crops.tops)
    whole = Crops(crops.values.new_zeros(n, *net.input_size), (0,) * n, (0,) * n)
    add(whole, crops.values, crops.tops, crops.lefts)
    return whole.values


def _check_finite(layer: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise ProjectionError(f"Layer '{layer}' has NaN or infinity among the activations.")


def strongest(maps: Tensor) -> tuple[int, int]:
    """(y, x) of a map's maximum; of equal ones the first, row by row. [h, w]."""
    values = maps.flatten()
    place = int(values.argmax())
    if values.isnan().any():  # the maximum is NaN, which equals nothing
        return divmod(place, maps.shape[-1])
    return divmod(int((values == values[place]).nonzero()[0]), maps.shape[-1])


def _check_exists(net: Network, unit: Unit) -> None:
    shape = net.nodes[net.find(unit.layer)].shape
    if len(shape) not in (1, 3):
        raise ProjectionError(
            f"Layer '{unit.layer}' is {list(shape)}, neither a map nor a vector of features. "
            "Project from a layer before or after it."
        )
    if unit.channel >= shape[0]:
        raise AddressError(
            f"Unit '{unit}' does not exist: layer '{unit.layer}' has channels 0 to {shape[0] - 1}."
        )
    height, width = map_size(shape)
    if unit.y is not None and unit.x is not None and (unit.y >= height or unit.x >= width):
        raise AddressError(
            f"Unit '{unit}' lies outside layer '{unit.layer}', whose map is {height}×{width}."
        )


def _locate(net: Network, maps: Tensor, unit: Unit) -> tuple[int, int]:
    """Where in one image's maps, [c, h, w] or [features], a unit is."""
    _check_exists(net, unit)
    if unit.y is not None and unit.x is not None:
        return unit.y, unit.x
    return strongest(maps[unit.channel].reshape(map_size(net.nodes[net.find(unit.layer)].shape)))


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
    way = Way(rule, lrn)  # type: ignore[arg-type]  # Way checks both
    layers = list(dict.fromkeys(u.layer for u in units))
    groups = {layer: [i for i, u in enumerate(units) if u.layer == layer] for layer in layers}
    near = {
        layer
        for layer in layers
        if _local_pays(net, layer, [units[i] for i in groups[layer]], len(x))
    }
    far = [layer for layer in layers if layer not in near]
    recorded = record(net, x, far, rule, lrn) if far else None
    found: dict[int, Projection] = {}
    for layer, mine in groups.items():
        place, rows = net.find(layer), [0 if len(x) == 1 else i for i in mine]
        for part in chunks(list(zip(mine, rows, strict=True)), _together(net, place)):
            wanted = [units[i] for i, _ in part]
            if layer in near:
                done = _project_locally(net, x, layer, wanted, [row for _, row in part], way)
            else:
                assert recorded is not None
                done = _project_recorded(net, recorded, layer, wanted, [row for _, row in part])
            found.update(zip([i for i, _ in part], done, strict=True))
    ordered = [found[i] for i in range(len(units))]
    return ordered[0] if single else ordered


def _local_pays(net: Network, layer: str, units: Sequence[Unit], images: int) -> bool:
    """Whether to go up in crops too: the units' places are given, and it is less work."""
    op = net.nodes[net.find(layer)].op
    if any(unit.y is None for unit in units) or op is None or op.window is None:
        return False
    here, full = multiply_adds(net, _plan(net, net.find(layer)))
    return len(units) * here < min(images, len(units)) * full


def _together(net: Network, place: int) -> int:
    """Activations of a node to take down at a time, by the memory of their largest patches."""
    sizes = sorted(
        (p.y.size * p.x.size * net.nodes[i].shape[0] for i, p in _plan(net, place).items()),
        reverse=True,
    )
    canvas = 2 * torch.Size(net.input_size).numel()
    each = (sum(sizes[:4]) + canvas) * torch.empty((), dtype=net.dtype).element_size()
    return max(1, min(_LIMIT, budget(net.device) // each))


def _present(
    net: Network, layer: str, units: Sequence[Unit], places: Sequence[tuple[int, int]],
    values: Tensor, pixels: Tensor, rule: str,
) -> list[Projection]:  # fmt: skip
    found = []
    for unit, (y, x), value, picture in zip(units, places, values.tolist(), pixels, strict=True):
        region = field(net, layer, y, x).clip(*net.input_size[1:])
        found.append(Projection(unit, picture, region.astuple(), value, (y, x), rule))
    return found


def _project_recorded(
    net: Network, recorded: Record, layer: str, units: Sequence[Unit], rows: Sequence[int]
) -> list[Projection]:
    maps = recorded.activations[layer]
    places = [_locate(net, maps[row], unit) for row, unit in zip(rows, units, strict=True)]
    row, channel, y, x = (
        torch.tensor(v, device=maps.device)
        for v in (rows, [u.channel for u in units], [y for y, _ in places], [x for _, x in places])
    )
    values = maps[row, channel, y, x] if _is_map(maps) else maps[row, channel]
    pixels = descend(net, recorded, layer, row, channel, y, x, values)
    return _present(net, layer, units, places, values, pixels, recorded.way.rule)


def _project_locally(
    net: Network, images: Tensor, layer: str, units: Sequence[Unit], rows: Sequence[int], way: Way
) -> list[Projection]:
    place = net.find(layer)
    for unit in units:
        _check_exists(net, unit)
    places = [(unit.y or 0, unit.x or 0) for unit in units]
    ys, xs = [y for y, _ in places], [x for _, x in places]
    patches = _plan(net, place)
    local = record_local(net, images, place, patches, way, rows, ys, xs)
    channels = torch.tensor([unit.channel for unit in units], device=images.device)
    values = local.top.flatten(1).gather(1, channels[:, None])[:, 0]
    _check_finite(layer, values)
    descent = _Descent(net, local.kept, way, patches, rows, ys, xs, local=True)
    with torch.no_grad():
        crops = descent.walk(place, _seed(net, place, channels, values))
    return _present(net, layer, units, places, values, _canvas(net, crops), way.rule)
