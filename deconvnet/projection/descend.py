"""Activations of a recorded batch, taken down to the pixels they see."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from deconvnet.errors import ProjectionError
from deconvnet.execution import executor
from deconvnet.execution.forward import Record
from deconvnet.execution.patches import cut, moved, paste
from deconvnet.geometry.boxes import Boxes
from deconvnet.geometry.boxes import whole as whole_boxes
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.geometry.view import View
from deconvnet.graph.network import Network
from deconvnet.ops.base import BackwardRule
from deconvnet.precision import finite
from deconvnet.projection.batches import ActivationGroup, grouped
from deconvnet.projection.prefix_cache import descend_prefix

LANES = 3  # activations of a picture at a time: nine hits are three batches


def _is_map(values: Tensor) -> bool:
    """Whether this is [n, c, h, w], which has regions; anything else goes down whole."""
    return values.dim() == 4


@torch.no_grad()
def descend_group(
    net: Network, layer: str, kept: Mapping[int, Tensor], backward: BackwardRule,
    group: ActivationGroup, rows: Sequence[int] | None, channels: Tensor, heights: Tensor,
) -> Tensor:  # fmt: skip
    """Seeds in a group of places of a layer, down to the input: [n, c, h, w] on the group's boxes.

    Args:
        kept: what each node kept, by image; where `rows` is None, on each activation's box.
        rows: the activations' images, [n].
        channels, heights: of the seeds, [n].

    Raises:
        ProjectionError: NaN or infinity come down.
    """
    nodes, boxes = net.nodes, group.boxes
    end, value = descend_prefix(
        net, kept, backward, net.find(layer), group.seed, boxes, channels.tolist(), heights
    )

    def own(above: int, saved: Tensor) -> Tensor:
        """Of what a node kept of the batch, each activation's part."""
        if rows is None:
            return saved
        if _is_map(saved):
            return cut(saved, rows, boxes[above])
        return saved[list(rows)] if len(saved) > 1 else saved

    def compute(above: int, value: Tensor) -> list[Tensor]:
        op, saved = nodes[above].op, kept.get(above)
        assert op is not None
        return op.descend(value, None if saved is None else own(above, saved), backward)

    def receive(above: int, below: int, part: Tensor, held: Tensor | None) -> Tensor:
        """Add what comes down to a node, where it lies in the node's box."""
        window = nodes[above].window
        if _is_map(part):
            given = (
                whole_boxes(len(part), map_size(nodes[below].shape))
                if window is None
                else boxes[above].pull(window)
            )
            part = moved(part, given, boxes[below], 0)
        return part if held is None else held.add_(part)

    pixels = executor.descend(nodes, {end: value}, compute, receive)
    if not finite(pixels):
        raise ProjectionError(
            f"Projections from '{layer}' have NaN or infinity: weights of {net.name} on the way "
            "down are no numbers, or too large to compute with."
        )
    return pixels


def descend_crops(
    net: Network, recorded: Record, layer: str, rows: Tensor, channels: Tensor, ys: Tensor,
    xs: Tensor, values: Tensor | None = None,
) -> Iterator[tuple[ActivationGroup, Tensor]]:  # fmt: skip
    """n activations of a recorded batch, down to what they see of the image.

    Args:
        rows, channels, ys, xs: int64 [n]; rows index the batch.
        values: what each is seeded with, [n]; None: its own height.

    Returns:
        In groups: which of the activations they are, and their pixels, [m, c, h, w], which lie at
        the group's box of the input.
    """
    place = net.find(layer)
    maps = recorded.activations[layer]
    if values is None:
        values = maps[rows, channels, ys, xs] if _is_map(maps) else maps[rows, channels]
    _check_finite(layer, values)
    if not _is_map(maps):
        ys = xs = torch.zeros_like(rows)
    own = rows.tolist()
    for group in grouped(net, place, ys.tolist(), xs.tolist()):
        which = group.which
        pixels = descend_group(
            net, layer, recorded.kept, recorded.backward, group, [own[i] for i in which],
            channels[which], values[which],
        )  # fmt: skip
        yield group, pixels


def descend_view(
    net: Network, recorded: Record, layer: str, seen: View, rows: Sequence[int],
    channels: Sequence[int], ys: Sequence[int], xs: Sequence[int], values: Sequence[float],
) -> Iterator[tuple[int, Tensor]]:  # fmt: skip
    """n activations of a recorded batch, down to what shows of them in a square of the image.

    They are taken `LANES` at a time, in order; the last are filled up. So each is computed in
    batches of one shape, and has the same bits whatever it is asked for with.

    Args:
        seen: of the layer.
        rows, channels, ys, xs: [n]; rows index the batch.
        values: what each is seeded with, [n].

    Returns:
        Which activation, and its pixels, [c, side, side], at the square of `seen.boxes`.
    """
    _check_finite(layer, torch.tensor(list(values)))
    device = net.device
    for first in range(0, len(rows), LANES):
        which = [min(i, len(rows) - 1) for i in range(first, first + LANES)]
        y, x = [ys[i] for i in which], [xs[i] for i in which]
        boxes = seen.boxes(y, x)
        group = ActivationGroup(which, Boxes(tuple(y), tuple(x), 1, 1), boxes)
        pixels = descend_group(
            net, layer, recorded.kept, recorded.backward, group, [rows[i] for i in which],
            torch.tensor([channels[i] for i in which], device=device),
            torch.tensor([values[i] for i in which], dtype=net.dtype, device=device),
        )  # fmt: skip
        yield from zip(range(first, min(first + LANES, len(rows))), pixels, strict=False)


def descend(
    net: Network, recorded: Record, layer: str, rows: Tensor, channels: Tensor, ys: Tensor,
    xs: Tensor, values: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """As `descend_crops`, on the whole image: [n, c, H, W], zero outside each receptive field."""
    return _canvas(
        net, len(rows), descend_crops(net, recorded, layer, rows, channels, ys, xs, values)
    )


def _canvas(net: Network, n: int, groups: Iterable[tuple[ActivationGroup, Tensor]]) -> Tensor:
    """What n activations saw, each on an image of its own, zero elsewhere."""
    whole: Tensor | None = None
    for group, parts in groups:
        whole = parts.new_zeros(n, *net.input_size) if whole is None else whole
        paste(whole, group.which, parts, group.boxes[INPUT])
    assert whole is not None
    return whole


def _check_finite(layer: str, values: Tensor) -> None:
    if not finite(values):
        raise ProjectionError(f"Layer '{layer}' has NaN or infinity among the activations.")
