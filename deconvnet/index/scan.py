"""The first pass of an index: top-k tables and statistics, filled block by block.

The images pass in fixed blocks that begin at multiples of the block's size; an image that cannot be
read leaves its place in the block empty, and the last block is filled up. So torch always sees
the same shapes, and every number is the same bit for bit whatever the batch, the number of decoding
threads or the places where a build was killed and taken up again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvnet import fingerprint
from deconvnet.data.dataset import Dataset
from deconvnet.data.decode import DecodedImage
from deconvnet.data.sources import Skipped
from deconvnet.execution import forward
from deconvnet.execution.batches import batch_size, in_slices
from deconvnet.execution.forward import stack
from deconvnet.graph.network import Network
from deconvnet.index import store
from deconvnet.index.statistics import UNLABELLED, ChannelStats
from deconvnet.index.topk import EMPTY, UNGROUPED, TopK
from deconvnet.ops.base import Rule

_BLOCK_BYTES = 32 * 2**20  # of the largest map of a block; keeps the whole pass under 200 MB
_MOST_IMAGES = 64


@dataclass(frozen=True)
class ScanPlan:
    """What is built, in integers and names; its key tells whether a checkpoint belongs to it.

    `rule` is that of the pictures; None: there are none.
    """

    network: str
    dataset: str
    layers: tuple[str, ...]
    k: int
    per_group: int | None
    block: int
    rule: Rule | None
    made_on: str
    autocast: bool = False

    @property
    def key(self) -> str:
        """The fingerprint of everything that the result depends on."""
        return fingerprint.of([store.VERSION, asdict(self)])


def made_on(net: Network) -> str:
    """What computes: numbers of other devices, types or versions may differ in their last bits.

    So may a processor's with another number of threads.
    """
    threads = f" threads {torch.get_num_threads()}" if net.device.type == "cpu" else ""
    return f"{net.device.type} {net.dtype} torch {torch.__version__}{threads}"


def block_size(net: Network, layers: Sequence[str]) -> int:
    """Images per block: a power of two that keeps the largest map under 32 MiB, at most 64."""
    deepest = max(net.find(layer) for layer in layers)
    largest = max(prod(node.shape) for node in net.nodes[: deepest + 1]) * 4
    fitting = max(1, min(_MOST_IMAGES, _BLOCK_BYTES // largest))
    return 1 << (fitting.bit_length() - 1)


class _Found(NamedTuple):
    """A layer's maxima, [n, c], and where those lie that may be among the strongest, [m] each."""

    values: NDArray[np.float32]
    row: NDArray[np.int64]
    channel: NDArray[np.int64]
    y: NDArray[np.int32]
    x: NDArray[np.int32]


class Scan:
    """The first pass: top-k tables and statistics, filled block by block."""

    def __init__(self, net: Network, dataset: Dataset, plan: ScanPlan) -> None:
        self.net, self.dataset, self.plan = net, dataset, plan
        channels = {layer: net.layer(layer).shape[0] for layer in plan.layers}
        labels, groups = dataset.labels, dataset.groups
        rank = {label: i for i, label in enumerate(labels)}
        group_rank = {group: i for i, group in enumerate(groups)}
        self.label_ids = np.array([rank.get(e.label or "", UNLABELLED) for e in dataset.entries])
        self.group_ids = np.array(
            [group_rank.get(e.group or "", UNGROUPED) for e in dataset.entries]
        )
        self.tops = {
            layer: TopK(count, plan.k, plan.per_group) for layer, count in channels.items()
        }
        self.stats = {layer: ChannelStats(count, len(labels)) for layer, count in channels.items()}
        self.digests = np.zeros(len(dataset), np.uint64)
        self.skipped: list[Skipped] = []
        self.done = 0
        self._prepared = False
        fitting = batch_size(net.nodes, net.dtype, net.device)
        self.size = min(plan.block, 1 << (fitting.bit_length() - 1))  # images at a time

    def add(self, block: Sequence[tuple[int, DecodedImage]]) -> None:
        """Take in the next block of images; a part that runs out of memory is halved."""
        blanks = self.plan.block - len(block)
        pictures = [
            *(picture for _, picture in block),
            *(DecodedImage(None) for _ in range(blanks)),
        ]
        ids = np.array([image_id for image_id, _ in block])
        self.digests[ids] = [picture.digest for _, picture in block]

        def work(part: slice) -> None:
            self._take(ids[part], pictures[part])
            self.size = part.stop - part.start

        if any(picture.pixels is not None for picture in pictures):
            self._prepare()
            in_slices(self.plan.block, self.size, work)
        self.skipped += [
            Skipped(self.dataset.entries[image_id].path, picture.reason)
            for image_id, picture in block
            if picture.pixels is None
        ]
        self.done = int(ids[-1]) + 1

    def _prepare(self) -> None:
        if not self._prepared:
            in_slices(1, 1, lambda _one: forward.prepare(self.net, self.plan.layers))
            self._prepared = True

    def _take(self, ids: NDArray[np.int64], pictures: Sequence[DecodedImage]) -> None:
        """Run some images and count them; `pictures` are followed by blanks, `ids` are not."""
        rows = np.array([r for r in range(len(ids)) if pictures[r].pixels is not None], np.int64)
        if not len(rows):
            return
        found = self._peaks(ids[rows], rows, pictures)
        endless: dict[int, str] = {}
        for layer in self.plan.layers:
            for row in rows[~np.isfinite(found[layer].values).all(1)].tolist():
                endless.setdefault(row, f"its activation in {layer} is NaN or infinite")
        if endless:  # once more without them: what they displaced may be among the strongest
            self._take(
                ids, [DecodedImage(None) if r in endless else p for r, p in enumerate(pictures)]
            )
            self.skipped += [
                Skipped(self.dataset.entries[ids[row]].path, why) for row, why in endless.items()
            ]
            return
        for layer, (values, row, channel, y, x) in found.items():
            image = ids[rows][row]
            self.count(layer, ids[rows], values)
            group = self.group_ids[image]
            self.tops[layer].add(channel, values[row, channel], image, y=y, x=x, group=group)

    def _peaks(
        self, ids: NDArray[np.int64], rows: NDArray[np.int64], pictures: Sequence[DecodedImage]
    ) -> dict[str, _Found]:
        """What each layer holds of the images `ids`, which stand at `rows` of the pictures."""
        found = {}

        def see(layer: str, maps: Tensor) -> None:
            maps = maps if maps.dim() == 4 else maps[:, :, None, None]
            lines = line_peaks(maps)
            values = peak(lines)[rows]
            row, channel = np.nonzero(self.tops[layer].candidates(values, ids))
            found[layer] = _Found(values, row, channel, *positions(maps, lines, rows[row], channel))

        x = stack(self.net, [one.pixels for one in pictures], len(pictures))
        with torch.autocast(self.net.device.type, torch.bfloat16, enabled=self.plan.autocast):
            forward.visit(self.net, x, self.plan.layers, see)
        return found

    def count(self, layer: str, ids: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Take the maxima [n, c] of n images into the layer's statistics."""
        self.stats[layer].add(values, self.label_ids[ids])

    def tables(self) -> store.Arrays:
        """Top-k and statistics of every layer, by name."""
        named = {}
        for layer in self.plan.layers:
            named.update({f"{layer}/top/{n}": t for n, t in self.tops[layer].state().items()})
            named.update({f"{layer}/stats/{n}": t for n, t in self.stats[layer].state().items()})
        return named

    def save(self, root: Path) -> None:
        """Write a checkpoint, from which `resume` goes on."""
        state = {
            "key": self.plan.key,
            "done": self.done,
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }
        data = store.pack({**self.tables(), "digests": self.digests}, state)
        store.write_files(root, {store.CHECKPOINT: data})

    def resume(self, root: Path) -> bool:
        """Take over the checkpoint of the same plan, if there is one."""
        found = store.read_checkpoint(root)
        if found is None or found[1].get("key") != self.plan.key:
            return False
        tables, state = found
        for layer in self.plan.layers:
            parts = {
                kind: {
                    name.rsplit("/", 1)[1]: table
                    for name, table in tables.items()
                    if name.startswith(f"{layer}/{kind}/")
                }
                for kind in ("top", "stats")
            }
            self.tops[layer].load(parts["top"])
            self.stats[layer] = ChannelStats.restore(parts["stats"])
        self.digests = tables["digests"]
        self.skipped = [Skipped(**skipped) for skipped in state["skipped"]]
        self.done = state["done"]
        return True

    def winners(self) -> list[int]:
        """The ids of all images in any unit's hits."""
        found = np.unique(np.concatenate([top.image.ravel() for top in self.tops.values()]))
        return [image_id for image_id in found.tolist() if image_id != EMPTY]


Scanner = Callable[[Scan], Iterator[int]]
"""Takes the rest of the dataset into a scan, from `done` on; yields each step's count of images."""


def line_peaks(maps: Tensor) -> Tensor:
    """The maximum of each line of a map: [n, c, h, w] → [n, h, c]; NaN where the line holds one."""
    return maps.permute(0, 2, 3, 1).amax(2)  # in this order a channels-last map is read as it lies


def peak(lines: Tensor) -> NDArray[np.float32]:
    """Spatial maxima of maps by their lines': [n, h, c] → [n, c]."""
    values: NDArray[np.float32] = lines.amax(1).float().cpu().numpy()
    return values + np.float32(0.0)  # makes -0.0 and 0.0 the same bits


def positions(
    maps: Tensor, lines: Tensor, rows: NDArray[np.int64], channels: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(y, x) of the maximum of m maps; of equal values the smallest y, then x. Each [m].

    The first line that holds the maximum, then its place in that line: of a map only so much is
    gathered, since that takes far longer than passing over all of it.
    """
    row, channel = (torch.from_numpy(at).to(maps.device) for at in (rows, channels))
    y = _first_maximum(lines[row, :, channel])
    x = _first_maximum(maps[row, channel, y])
    return y.cpu().numpy().astype(np.int32), x.cpu().numpy().astype(np.int32)


def _first_maximum(values: Tensor) -> Tensor:
    """Of each line of values the place of its maximum, the first of equal ones: [m, l] → [m]."""
    if values.device.type == "cpu":  # NumPy promises the first; torch does not
        return torch.from_numpy(values.float().numpy().argmax(1))
    place = torch.arange(values.shape[1], device=values.device)
    return place.where(values == values.amax(1, keepdim=True), len(place)).amin(1)
