"""Activations of a recorded batch, taken down to the pixels they see."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from deconvnet.errors import ProjectionError
from deconvnet.execution.forward import Record
from deconvnet.execution.patches import cut, moved, paste
from deconvnet.geometry.boxes import Boxes
from deconvnet.geometry.region import INPUT
from deconvnet.graph.batch import finite
from deconvnet.graph.network import Network
from deconvnet.ops.base import BackwardRule
from deconvnet.projection.batches import Group, grouped
from deconvnet.projection.prefix_cache import descend_head


def _is_map(values: Tensor) -> bool:
    """Whether this is [n, c, h, w], which has regions; anything else goes down whole."""
    return values.dim() == 4


class _Descent:
    """One walk down for a group of activations.

    Args:
        layer: the activations'.
        kept: what each node kept, by image; where `rows` is None, on each activation's box.
        rows: the activations' images, [n].
    """

    def __init__(
        self, net: Network, layer: str, kept: dict[int, Tensor], backward: BackwardRule,
        group: Group, rows: Sequence[int] | None,
    ) -> None:  # fmt: skip
        self.net, self.layer, self.kept, self.backward = net, layer, kept, backward
        self.group, self.rows = group, rows
        self.values: dict[int, Tensor] = {}

    @torch.no_grad()
    def walk(self, channels: Tensor, heights: Tensor) -> Tensor:
        """From seeds of some heights [n] in channels [n] of the layer down to the input's box.

        Raises:
            ProjectionError: NaN or infinity come down.
        """
        place = self.net.find(self.layer)
        end, value = descend_head(
            self.net,
            self.kept,
            self.backward,
            place,
            self.group.seed,
            self.group.boxes,
            channels.tolist(),
            heights,
        )
        self.values[end] = value
        for above in range(end, INPUT, -1):
            if above in self.values:
                self._descend(above)
        if not finite(self.values[INPUT]):
            raise ProjectionError(
                f"Projections from '{self.layer}' have NaN or infinity: weights of "
                f"{self.net.name} on the way down are no numbers, or too large to compute with."
            )
        return self.values[INPUT]

    def _descend(self, above: int) -> None:
        node, values = self.net.nodes[above], self.values.pop(above)
        op = node.op
        assert op is not None
        saved = self.kept.get(above)
        if saved is not None and self.rows is not None:
            saved = self._own(above, saved)
        parts = op.descend(values, saved, self.backward)
        at = None if op.window is None else self.group.boxes[above].pull(op.window)
        for below, part in zip(node.inputs, parts, strict=True):
            self._receive(below, part, at)

    def _own(self, above: int, saved: Tensor) -> Tensor:
        """Of what a node kept of the batch, each activation's part."""
        assert self.rows is not None
        if _is_map(saved):
            return cut(saved, self.rows, self.group.boxes[above])
        return saved[list(self.rows)] if len(saved) > 1 else saved

    def _receive(self, below: int, part: Tensor, at: Boxes | None) -> None:
        """Add what comes down to a node, where it lies in the node's box."""
        if at is not None and _is_map(part):
            part = moved(part, at, self.group.boxes[below], 0)
        held = self.values.get(below)
        self.values[below] = part if held is None else held.add_(part)


def descend_crops(
    net: Network, recorded: Record, layer: str, rows: Tensor, channels: Tensor, ys: Tensor,
    xs: Tensor, values: Tensor | None = None,
) -> Iterator[tuple[Group, Tensor]]:  # fmt: skip
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
        descent = _Descent(
            net, layer, recorded.kept, recorded.backward, group, [own[i] for i in which]
        )
        yield group, descent.walk(channels[which], values[which])


def descend(
    net: Network, recorded: Record, layer: str, rows: Tensor, channels: Tensor, ys: Tensor,
    xs: Tensor, values: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """As `descend_crops`, on the whole image: [n, c, H, W], zero outside each receptive field."""
    return _canvas(
        net, len(rows), descend_crops(net, recorded, layer, rows, channels, ys, xs, values)
    )


def _canvas(net: Network, n: int, groups: Iterable[tuple[Group, Tensor]]) -> Tensor:
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
