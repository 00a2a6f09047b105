"""The deconvnet: one activation down to the pixels (Zeiler & Fergus 2013, section 2.1).

All other activations of the layer are set to zero and the maps go down, node by node in reverse:
unpool with the switches of the forward pass, rectify the reconstruction, filter with the transposed
kernels. Biases are left out; contrast normalisation is passed by; there is no rectifier at the
pixels. On a chain of convolutions, ReLUs and max-pools the projection of an activation of height h
is h times the gradient that autograd gives when each ReLU's backward is replaced by ReLU(grad).

Only what the activation can see is computed: at every node a box of its map (`boxes`), many
activations of one layer at a time, each with its own offset; what no image changes is computed once
for each unit (`prefix_cache`). Where branches meet, what comes down
adds; beyond the border of a map there is nothing, so what lands there is dropped.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.address import Unit
from deconvnet.errors import AddressError, ParameterError, ProjectionError
from deconvnet.execution.forward import Record, checked, record, record_local
from deconvnet.geometry.region import Region, map_size
from deconvnet.graph.network import Network
from deconvnet.graph.nodes import map_cells, multiply_adds
from deconvnet.ops.base import BackwardRule, Norm, Rule
from deconvnet.precision import exact
from deconvnet.projection.batches import ActivationGroup, grouped
from deconvnet.projection.descend import (
    _canvas,
    _check_finite,
    _is_map,
    descend,
    descend_group,
)
from deconvnet.projection.display import Display


@dataclass(frozen=True)
class Projection:
    """One activation as the network's input would show it.

    Attributes:
        pixels: [c, H, W], zero outside `region`, in the input's units times the activation's.
        region: (y0, x0, y1, x1), what the activation sees, clipped to the image.
        value: the activation's height.
        position: (y, x) in its layer's map.
        field: (y0, x0, y1, x1), what the activation sees, beyond the image's border too.
    """

    unit: Unit
    pixels: Tensor
    region: tuple[int, int, int, int]
    value: float
    position: tuple[int, int]
    rule: str
    field: tuple[int, int, int, int]

    @property
    def display(self) -> Display:
        """The part that is worth showing: the effective field, see `projection.display`."""
        return Display.of_projection(self.pixels, Region(*self.field))


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


@exact
def project(
    net: Network, x: Tensor, unit: "str | Unit | Sequence[str | Unit]", rule: Rule = "deconv",
    *, lrn: Norm = "identity",
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
    single = isinstance(unit, str | bytes | Unit)
    several = unit if isinstance(unit, Iterable) and not single else [unit]
    units = [Unit.parse(u) for u in several]
    x = checked(net, x)
    if len(x) not in (1, len(units)):
        raise ParameterError(
            f"{len(x)} images and {len(units)} units do not pair; "
            "give one image, or as many images as units."
        )
    if not units:
        return []
    backward = BackwardRule(rule, lrn)
    layers = list(dict.fromkeys(u.layer for u in units))
    sorted_ = {layer: [i for i, u in enumerate(units) if u.layer == layer] for layer in layers}
    far = [
        layer for layer in layers
        if not _local_pays(net, layer, [units[i] for i in sorted_[layer]], len(x))
    ]  # fmt: skip
    recorded = record(net, x, far, rule, lrn) if far else None
    found: dict[int, Projection] = {}
    for layer, mine in sorted_.items():
        wanted, rows = [units[i] for i in mine], [0 if len(x) == 1 else i for i in mine]
        if layer in far:
            assert recorded is not None
            done = _project_recorded(net, recorded, layer, wanted, rows)
        else:
            done = _project_locally(net, x, layer, wanted, rows, backward)
        found.update(zip(mine, done, strict=True))
    ordered = [found[i] for i in range(len(units))]
    return ordered[0] if single else ordered


def _local_pays(net: Network, layer: str, units: Sequence[Unit], images: int) -> bool:
    """Whether to go up in crops too: the units' places are given, and it is less work."""
    place = net.find(layer)
    op = net.nodes[place].op
    if op is None or op.window is None:
        return False
    given = [(unit.y, unit.x) for unit in units if unit.y is not None and unit.x is not None]
    if len(given) < len(units):
        return False
    groups = grouped(net, place, *zip(*given, strict=True))
    here = sum(len(g.which) * _products(net, g) for g in groups)
    whole = multiply_adds(net.nodes, map_cells(net.nodes, groups[0].boxes))
    return here < min(images, len(units)) * whole


def _products(net: Network, group: ActivationGroup) -> int:
    return multiply_adds(net.nodes, {i: boxes.cells for i, boxes in group.boxes.items()})


def _present(
    net: Network, layer: str, units: Sequence[Unit], places: Sequence[tuple[int, int]],
    values: Tensor, pixels: Tensor, rule: str,
) -> list[Projection]:  # fmt: skip
    found = []
    for unit, (y, x), value, picture in zip(units, places, values.tolist(), pixels, strict=True):
        field = net.field(layer, y, x)
        region = field.clip(*net.input_size[1:])
        found.append(
            Projection(unit, picture, region.astuple(), value, (y, x), rule, field.astuple())
        )
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
    return _present(net, layer, units, places, values, pixels, recorded.backward.rule)


def _project_locally(
    net: Network,
    x: Tensor,
    layer: str,
    units: Sequence[Unit],
    rows: Sequence[int],
    backward: BackwardRule,
) -> list[Projection]:
    net.require_rule(layer, backward.rule)
    place = net.find(layer)
    for unit in units:
        _check_exists(net, unit)
    places = [(unit.y or 0, unit.x or 0) for unit in units]
    channels = torch.tensor([unit.channel for unit in units], device=x.device)
    values = x.new_empty(len(units))

    def each() -> Iterator[tuple[ActivationGroup, Tensor]]:
        for group in grouped(net, place, *zip(*places, strict=True)):
            own = [rows[i] for i in group.which]
            local = record_local(net, x, place, group.boxes, backward, own)
            mine = channels[group.which]
            heights = local.top.flatten(1).gather(1, mine[:, None])[:, 0]
            _check_finite(layer, heights)
            values[group.which] = heights
            yield group, descend_group(net, layer, local.kept, backward, group, None, mine, heights)

    pixels = _canvas(net, len(units), each())
    return _present(net, layer, units, places, values, pixels, backward.rule)
