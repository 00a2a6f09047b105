"""Channels taken out, exchanged, or put last.

Maps with channels last, as LayerNorm and fully connected layers want them, and shuffled groups are
how a network is written down: `deconvnet.graph.canonicalise` takes their transpositions away.
"""

import operator
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.ops.base import BackwardRule, Call, Op, register
from deconvnet.ops.pad import crop
from deconvnet.ops.shape import view


class Slice(Op):
    """Some of the channels, first … last - 1."""

    kind = "slice"

    def __init__(self, channels: int, first: int, last: int) -> None:
        self.channels, self.first, self.last = channels, first, last

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0][:, self.first : self.last]

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        whole = g.new_zeros(len(g), self.channels, *g.shape[2:])
        whole[:, self.first : self.last] = g
        return [whole]


class Shuffle(Op):
    """Channels in another order.

    Args:
        source: the channel that each output is, [c].
    """

    kind = "channel shuffle"

    def __init__(self, source: list[int]) -> None:
        self.source = source
        self._back = sorted(range(len(source)), key=source.__getitem__)

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0][:, self.source]

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g[:, self._back]]


class Permute(Op):
    """Dimensions in another order, that of the images first; `layout` takes it away from maps."""

    kind = "permutation"
    window = None

    def __init__(self, order: tuple[int, ...]) -> None:
        self.order = order

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].permute(self.order)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g.permute(sorted(range(len(self.order)), key=self.order.__getitem__))]


class ChannelsLast(Op):
    """An op of channels-first maps on [n, h, w, c]; `layout` puts that op in its place."""

    kind = "channels last"
    window = None

    def __init__(self, first: Op) -> None:
        self.kind, self._first = first.kind, first

    def forward(self, *xs: Tensor) -> Tensor:
        return self._first.forward(*(x.permute(0, 3, 1, 2) for x in xs)).permute(0, 2, 3, 1)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        found = self._first.descend(g.permute(0, 3, 1, 2), kept, backward)
        return [down.permute(0, 2, 3, 1) for down in found]

    def channels_first(self) -> Op:
        return self._first


def _slices(x: Any, dim: int, sizes: Sequence[int]) -> list[Call]:
    """Channels one part after the other, of maps that have them first or last."""
    rank, ends = len(x.shape), list(accumulate(sizes))
    last = rank == 4 and dim in (3, -1)
    if not last and dim not in (1, 1 - rank):
        raise UnknownOpError(f"A split along dimension {dim} is unknown; expected 1.")
    ops = [Slice(ends[-1], end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return [(ChannelsLast(op) if last else op, [x]) for op in ops]


@register(torch.chunk, "chunk")
def chunk(input: Any, chunks: int, dim: int = 0) -> list[Call]:
    """torch.chunk of the channels."""
    return split(input, -(-input.shape[dim] // chunks), dim)


@register(torch.split, "split")
def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> list[Call]:
    """torch.split of the channels."""
    each, count = split_size_or_sections, tensor.shape[dim]
    if isinstance(each, int):
        each = [min(each, count - first) for first in range(0, count, each)]
    return _slices(tensor, dim, each)


@register(operator.getitem)
def getitem(x: Any, index: Any) -> Call:
    """x[:, a:b], x[:, :, a:b, c:d] or x[:, :, None, None]."""
    index = _spelled(index if isinstance(index, tuple) else (index,), len(x.shape))
    everything = slice(None)
    if any(one is None for one in index) and all(one in (None, everything) for one in index):
        return _with_ones(x, index)
    index = (*index, *(everything,) * (len(x.shape) - len(index)))
    wanted, places = index[1], index[2:]
    if index[0] != everything or not all(isinstance(one, slice) for one in (wanted, *places)):
        raise UnknownOpError(
            f"An index {list(index)} is unknown; expected channels, [:, a:b], or a part of the "
            "map, [:, :, a:b, c:d]."
        )
    part = None
    if any(one != everything for one in places):
        if len(places) != 2:
            raise UnknownOpError(f"An index {list(index)} of {list(x.shape[1:])} is unknown.")
        part = crop(x, *places)
    if part is not None and wanted == everything:
        return part
    first, last, step = wanted.indices(x.shape[1])
    if step != 1 or last <= first:
        raise UnknownOpError(f"Channels {first}:{last}:{step} are unknown; expected some in order.")
    return Slice(x.shape[1], first, last), [x if part is None else part]


def _spelled(index: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """An index with whole dimensions in the place of `...`."""
    places = [place for place, one in enumerate(index) if one is ...]
    if not places:
        return index
    named = sum(one is not None and one is not ... for one in index)
    whole = (slice(None),) * (rank - named)
    return (*index[: places[0]], *whole, *index[places[0] + 1 :])


def _with_ones(x: Any, index: tuple[Any, ...]) -> Call:
    """Dimensions of one cell where an index has None, the others whole."""
    sizes, target = iter(x.shape), []
    for one in index:
        target.append(1 if one is None else next(sizes))
    return view(x, *target, *sizes)


@register("unsqueeze", torch.unsqueeze)
def unsqueeze(input: Any, dim: int) -> Call:
    """torch.unsqueeze after the dimension of the images."""
    place = dim % (len(input.shape) + 1)
    return view(input, *input.shape[:place], 1, *input.shape[place:])


@register(torch.permute, "permute")
def permute(input: Any, *dims: Any) -> Call:
    """torch.permute of all dimensions but that of the images."""
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    rank = len(input.shape)
    order = tuple(int(dim) % rank for dim in order)
    if order[0] != 0:
        raise UnknownOpError(f"A permutation {list(order)} mixes images of a batch.")
    return Permute(order), [input]


@register(torch.transpose, torch.swapaxes, "transpose", "swapaxes")
def transpose(input: Any, dim0: int, dim1: int) -> Call:
    """torch.transpose of two dimensions other than that of the images."""
    order = list(range(len(input.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(input, order)


def shuffled(
    source: tuple[int, ...], grouped: tuple[int, ...], order: tuple[int, ...]
) -> Op | None:
    """Channels in groups, the groups exchanged, and put together: as an order of channels.

    Args:
        source: [c, h, w], before.
        grouped: [groups, c / groups, h, w].
        order: of the dimensions of [n, groups, c / groups, h, w].
    """
    if len(source) != 3 or prod(grouped[:-2]) != source[0] or grouped[-2:] != source[1:]:
        return None
    rank = len(grouped) + 1
    if order[-2:] != (rank - 2, rank - 1):
        return None
    places = torch.arange(source[0]).view(1, *grouped[:-2]).permute(order[:-2])
    return Shuffle(places.flatten().tolist())


@register(F.channel_shuffle)
def channel_shuffle(input: Any, groups: int) -> Call:
    """torch.nn.functional.channel_shuffle."""
    places = torch.arange(input.shape[1]).view(groups, -1).t()
    return Shuffle(places.flatten().tolist()), [input]


@register(nn.ChannelShuffle)
def channel_shuffle_module(module: nn.ChannelShuffle, x: Any) -> Call:
    """nn.ChannelShuffle."""
    return channel_shuffle(x, module.groups)
