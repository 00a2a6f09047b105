"""Forward passes of many images that differ from one clean image inside a small rectangle.

The clean maps are computed once. A change is then pushed up through every op's window: only the
part of each map that it can reach is recomputed, from the changed part below with a halo of clean
values, many images at a time. Exact: every recomputed value sees just the inputs it would see in a
full pass (chains, branches, skips, normalisation and global operations alike). An op that sees
everything (global pooling, a flatten) runs on whole maps; the fully connected layers that follow
run once, on many images together.

What changes is planned in `changes`.

The idea is Krypton's (Nakandala, Kumar & Papakonstantinou, SIGMOD 2019), exact part. In float32 on
a CPU, patches go through a convolution by Winograd's algorithm where that is faster (`winograd`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deconvnet.execution.executor import Compute, Step, alone, execute
from deconvnet.execution.forward import whole_maps
from deconvnet.execution.memory import budget, out_of_memory
from deconvnet.execution.patches import lay, take
from deconvnet.geometry.push import Axis, Change
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.graph.network import Network
from deconvnet.occlusion_maps.winograd import Winograd, filled, fits, memory, pays
from deconvnet.ops.base import POINT
from deconvnet.ops.conv import Conv
from deconvnet.ops.derived import Derived, state


class Clean:
    """The clean image's maps, computed once.

    Args:
        x: [1, c, H, W].
        order: the nodes to compute, in order of execution.

    Attributes:
        share: bytes for each of transformed kernels, patches, and what the classifier sees; of the
            memory budget a third of what the maps leave, and an eighth at least.
    """

    def __init__(self, net: Network, x: Tensor, order: Sequence[int]) -> None:
        self.net, self.order = net, order
        self.maps = whole_maps(net.nodes, order, {INPUT: x})
        self._padded: dict[tuple[int, int], Tensor] = {}
        held = 2 * sum(value.nbytes for value in self.maps.values())  # as they are, and padded
        whole = budget(x.device)
        self.share = max(whole // 8, (whole - held) // 3)
        self.by_winograd = set(_by_winograd(net, x, order, self.share))
        self._winograd = Derived[int, Winograd]()

    def winograd(self, place: int, height: int, width: int) -> Winograd | None:
        """The node's convolution by Winograd's algorithm, if patches of this size run faster so."""
        if place not in self.by_winograd or not filled(height, width):
            return None
        op = self.net.nodes[place].op
        assert isinstance(op, Conv)
        weight, bias = op.weight, op.bias
        try:
            return self._winograd.of(place, state((weight, bias)), lambda: Winograd(weight, bias))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self.by_winograd.remove(place)  # the direct way needs no kernel of its own
            return None

    def padded(self, above: int, place: int) -> Tensor:
        """A map with all the border that the windows of the op at `above` reach."""
        key = (above, place)
        if key not in self._padded:
            op, clean = self.net.nodes[above].op, self.maps[place]
            assert op is not None and op.window is not None
            border: list[int] = []
            for which, length in enumerate(map_size(self.net.nodes[above].shape)):
                before, stride = op.window.padding[which], op.window.stride[which]
                reached = (length - 1) * stride - before + op.window.extent[which]
                border = [before, max(0, reached - clean.shape[2 + which]), *border]
            self._padded[key] = F.pad(clean, border, value=op.pad_value)
        return self._padded[key]


def _by_winograd(net: Network, x: Tensor, order: Sequence[int], left: int) -> Iterator[int]:
    """The nodes that Winograd's algorithm serves.

    In float32 on a CPU alone: elsewhere libraries choose by themselves, and float64 is the oracle.
    Transformed kernels take at most `left` bytes.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return
    for place in order:
        op = net.nodes[place].op
        if not isinstance(op, Conv) or not fits(op.window, op.groups):
            continue
        outputs, inputs = op.weight.shape[:2]
        if pays(inputs, outputs) and memory(op.weight) <= left:
            left -= memory(op.weight)
            yield place


class Incremental:
    """Passes of changed copies of one image.

    Args:
        changes: of every map that is recomputed, from `changes.grouped`.
    """

    def __init__(self, clean: Clean, changes: Mapping[int, Change]) -> None:
        self.net, self.maps, self.clean, self.changes = clean.net, clean.maps, clean, changes
        self.order = [place for place in clean.order if place in changes]
        self._steps = [Step(place, self.net.nodes[place].inputs) for place in self.order]
        self._windows: Tensor | None = None

    def bytes_each(self) -> int:
        """Memory that one image takes, counting the largest patches."""
        sizes = sorted(
            (self.changes[p].cells * self.net.nodes[p].shape[0] for p in (INPUT, *self.order)),
            reverse=True,
        )
        return sum(sizes[:4]) * self.maps[INPUT].element_size()

    def run(self, which: slice, fill: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """The values of the wanted nodes for some of the changes, as their recomputed patches.

        Args:
            fill: [1, c, H, W]; inside its rectangle a changed image is this instead.
        """
        changes = {place: change.part(which) for place, change in self.changes.items()}
        values = {INPUT: self._start(changes[INPUT], fill)}
        execute(self._steps, values, self._changed(changes), keep=wanted)
        return {place: values[place] for place in wanted}

    def channel_sum(self, place: int, patches: Tensor, which: slice, channel: int) -> Tensor:
        """[n]: one channel's sum over the whole map, from the clean sum and what changed."""
        clean, change = self.maps[place][:, channel], self.changes[place].part(which)
        if patches.dim() == 2 or change.whole:
            return (
                patches[:, channel].flatten(1).sum(1) if patches.dim() > 2 else patches[:, channel]
            )
        before = take(clean[:, None], *change.boxes)[..., 0]
        return clean.sum() + (patches[:, channel] - before).flatten(1).sum(1)

    def _start(self, change: Change, fill: Tensor) -> Tensor:
        clean, other = (take(source, *change.boxes) for source in (self.maps[INPUT], fill))
        inside = _inside(change.y)[:, :, None] & _inside(change.x)[:, None, :]
        mask = torch.from_numpy(inside).to(clean.device)[..., None]
        return torch.where(mask, other, clean).permute(0, 3, 1, 2)

    def _changed(self, changes: Mapping[int, Change]) -> Compute:
        return lambda step, values, spent: self._recompute(step.place, values, changes, spent)

    def _recompute(
        self, place: int, values: Mapping[int, Tensor], changes: Mapping[int, Change], spent: bool
    ) -> Tensor:
        """A node's patches; those of its only input may be overwritten where it is spent."""
        node = self.net.nodes[place]
        op, change = node.op, changes[place]
        assert op is not None
        below = [changes[i] for i in node.inputs]
        if op.window is None or (change.whole and all(c.whole for c in below)):
            return op.forward(*(self._whole(i, values[i], changes[i]) for i in node.inputs))
        sizes = {map_size(self.net.nodes[i].shape) for i in (place, *node.inputs)}
        # Padding on the right and below alone has a window of one cell too, and another size.
        aligned = op.window == POINT and len(sizes) == 1
        if aligned and op.constant is None and all(c.same_frame(change) for c in below):
            first = node.inputs[0]
            if spent and alone(values[first], first, values):
                return op.forward_over(values[first])
            return op.forward_patch(*(values[i] for i in node.inputs))
        windows = [self._window(place, i, values[i], changes[i], change) for i in node.inputs]
        faster = self.clean.winograd(place, change.y.size, change.x.size)
        if faster is not None:
            return faster(windows[0])
        constant = op.constant
        if constant is not None:
            constant = take(constant.to(windows[0]), *change.boxes).permute(0, 3, 1, 2)
        return op.forward_patch(*windows, constant=constant)

    def _whole(self, place: int, value: Tensor, change: Change) -> Tensor:
        """The whole map of a node: the clean one with its changed patch."""
        if change.whole or value.dim() == 2:
            return value
        clean = self.maps[place].permute(0, 2, 3, 1)
        maps = clean.expand(len(value), -1, -1, -1).clone(memory_format=torch.contiguous_format)
        lay(maps, value, change.y.first, change.x.first)
        return maps.permute(0, 3, 1, 2)

    def _window(
        self, above: int, place: int, value: Tensor, change: Change, wanted: Change
    ) -> Tensor:
        """What the op at `above` sees of a node: clean values, padding, and the changed patch."""
        op = self.net.nodes[above].op
        assert op is not None and op.window is not None
        (sh, sw), (ph, pw), (eh, ew) = op.window.stride, op.window.padding, op.window.extent
        first_y, first_x = wanted.y.first * sh - ph, wanted.x.first * sw - pw
        h, w = (wanted.y.size - 1) * sh + eh, (wanted.x.size - 1) * sw + ew
        source = self.clean.padded(above, place)
        into = self._space(len(value) * h * w * source.shape[1]) if op.multiply_adds else None
        windows = take(source, first_y + ph, first_x + pw, h, w, into)
        lay(windows, value, change.y.first - first_y, change.x.first - first_x)
        return windows.permute(0, 3, 1, 2)

    def _space(self, numel: int) -> Tensor:
        """Memory for windows that are done with once a convolution has read them."""
        if self._windows is None or len(self._windows) < numel:
            self._windows = self.maps[INPUT].new_empty(numel)
        return self._windows[:numel]


def _inside(axis_: Axis) -> NDArray[np.bool_]:
    """[n, size]: which recomputed cells lie in the changed extent."""
    cells = axis_.first[:, None] + np.arange(axis_.size)
    inside: NDArray[np.bool_] = (cells >= axis_.start[:, None]) & (cells < axis_.end[:, None])
    return inside
