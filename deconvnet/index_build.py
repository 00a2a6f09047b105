"""Building an index: one forward pass over a dataset, then the pictures of the winners.

Each image goes through the network once, up to the deepest asked layer. Of each map the spatial
maximum is taken; its position only where the value may enter a unit's top k.

The images pass in fixed blocks that begin at multiples of the block's size; an image that cannot be
read leaves its place in the block empty, and the last block is filled up. So torch always sees
the same shapes, and every number is the same bit for bit whatever the batch, the number of decoding
threads or the places where a build was killed and taken up again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvnet import fingerprint, forward
from deconvnet import index_store as store
from deconvnet.dataset import Dataset, open_dataset
from deconvnet.decoding import Decoder, Loaded, stack
from deconvnet.describe import describe
from deconvnet.errors import DatasetError, IndexError_, ParameterError
from deconvnet.index import ActivationIndex, open_index
from deconvnet.memory import batch_size, in_slices
from deconvnet.network import Network
from deconvnet.progress import OnProgress, Reporter
from deconvnet.sources import Skipped
from deconvnet.sprites import Artist, tile_size
from deconvnet.topk import EMPTY, UNGROUPED, TopK
from deconvnet.unitstats import UNLABELLED, ChannelStats

_BLOCK_BYTES = 32 * 2**20  # of the largest map of a block; keeps the whole pass under 200 MB
_AHEAD_BYTES = 16 * 2**20  # of pixels decoded ahead of the network
_MOST_IMAGES = 64


@dataclass(frozen=True)
class Plan:
    """What is built, in integers and names; its key tells whether a checkpoint belongs to it."""

    network: str
    dataset: str
    layers: tuple[str, ...]
    k: int
    per_group: int | None
    block: int
    sprites: bool
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

    def __init__(self, net: Network, dataset: Dataset, plan: Plan) -> None:
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
        fitting = batch_size(net.nodes, net.dtype, net.device)
        self.size = min(plan.block, 1 << (fitting.bit_length() - 1))  # images at a time

    def add(self, block: Sequence[tuple[int, Loaded]]) -> None:
        """Take in the next block of images; a part that runs out of memory is halved."""
        blanks = self.plan.block - len(block)
        pictures = [*(picture for _, picture in block), *(Loaded(None) for _ in range(blanks))]
        ids = np.array([image_id for image_id, _ in block])
        self.digests[ids] = [picture.digest for _, picture in block]

        def work(part: slice) -> None:
            self._take(ids[part], pictures[part])
            self.size = part.stop - part.start

        if any(picture.pixels is not None for picture in pictures):
            in_slices(self.plan.block, self.size, work)
        self.skipped += [
            Skipped(self.dataset.entries[image_id].path, picture.reason)
            for image_id, picture in block
            if picture.pixels is None
        ]
        self.done = int(ids[-1]) + 1

    def _take(self, ids: NDArray[np.int64], pictures: Sequence[Loaded]) -> None:
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
            self._take(ids, [Loaded(None) if r in endless else p for r, p in enumerate(pictures)])
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
        self, ids: NDArray[np.int64], rows: NDArray[np.int64], pictures: Sequence[Loaded]
    ) -> dict[str, _Found]:
        """What each layer holds of the images `ids`, which stand at `rows` of the pictures."""
        found = {}

        def see(layer: str, maps: Tensor) -> None:
            maps = maps if maps.dim() == 4 else maps[:, :, None, None]
            values = peak(maps)[rows]
            row, channel = np.nonzero(self.tops[layer].candidates(values, ids))
            found[layer] = _Found(values, row, channel, *positions(maps, rows[row], channel))

        x = stack(self.net, pictures, len(pictures))
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


def peak(maps: Tensor) -> NDArray[np.float32]:
    """Spatial maxima: [n, c, h, w] → [n, c]; NaN where the map holds one."""
    values: NDArray[np.float32] = maps.amax((2, 3)).float().cpu().numpy()
    return values + np.float32(0.0)  # makes -0.0 and 0.0 the same bits


def positions(
    maps: Tensor, rows: NDArray[np.int64], channels: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(y, x) of the maximum of m maps; of equal values the smallest y, then x. Each [m]."""
    at = (torch.from_numpy(rows).to(maps.device), torch.from_numpy(channels).to(maps.device))
    asked = maps[at].flatten(1).float()
    if asked.device.type == "cpu":
        # NumPy promises the first of equal maxima; torch does not.
        flat = asked.numpy().argmax(1)
    else:
        place = torch.arange(asked.shape[1], device=asked.device)
        largest = asked == asked.amax(1, keepdim=True)
        flat = place.where(largest, asked.shape[1]).amin(1).cpu().numpy()
    y, x = np.divmod(flat, maps.shape[3])
    return y.astype(np.int32), x.astype(np.int32)


def spatial_landmarks(net: Network) -> tuple[str, ...]:
    """The landmarks that are maps, by depth; those after the fully connected layers are not."""
    maps = [name for name in net.landmarks if len(net.layer(name).shape) == 3]
    return tuple(sorted(maps, key=net.find))


def _layers(net: Network, asked: Sequence[str] | None) -> tuple[str, ...]:
    layers = tuple(asked) if asked is not None else spatial_landmarks(net)
    if not layers or len(set(layers)) != len(layers):
        raise ParameterError(f"layers are {list(layers)}, expected one or more, each once.")
    return tuple(sorted(layers, key=net.find))


def _check_autocast(net: Network) -> None:
    if net.dtype != torch.float32:
        raise ParameterError(
            f"autocast is asked for, but {net.name} is {net.dtype}, expected torch.float32. "
            "Convert the network, or index without autocast."
        )


def _check(dataset: Dataset, k: int, per_group: int | None) -> None:
    TopK(0, k, per_group)  # refuses what is below 1
    if per_group is not None and not dataset.groups:
        raise ParameterError(
            f"per_group is {per_group}, but dataset '{dataset.name}' has no groups. Give it a "
            "groups.tsv (path, tab, group), or open it with open_dataset(..., group=...)."
        )


def build_index(
    net: Network,
    dataset: Any,
    out: str | Path,
    *,
    k: int = 9,
    layers: Sequence[str] | None = None,
    progress: bool = True,
    per_group: int | None = None,
    batch: int = 64,
    workers: int | None = None,
    checkpoint_every: int = 4096,
    sprites: bool = True,
    on_progress: OnProgress | None = None,
    scanner: Scanner | None = None,
    autocast: bool = False,
) -> ActivationIndex:
    """Find the k images of a dataset that excite each unit most, and project them.

    Killed and called again, it goes on from its last checkpoint. A finished index of the same
    inputs is opened; one of other inputs in the same folder is replaced.

    Args:
        net: the network.
        dataset: a path (folder, tar, zip), several, a torchvision dataset or a `Dataset`. Images
            that cannot be read, or whose activations are not finite, are skipped and listed in
            `index.dataset["skipped"]`.
        out: the index's folder: new, empty or an index.
        k: hits per unit.
        layers: landmarks or call sites; None: all landmarks that are maps.
        progress: show a bar.
        per_group: how many of a unit's hits may come from one group of the dataset; None: any.
        batch: images decoded ahead, as far as their pixels take no more than 16 MiB. Like `workers`
            it changes memory and speed, never a result.
        workers: decoding threads; 0: none; None: one per core, at most 8.
        checkpoint_every: images between checkpoints.
        sprites: also project the hits and keep their pictures.
        on_progress: called with a phase ("scan", "draw"), how many are done, and of how many.
        scanner: scans in another way than block by block in this process (`shards.sharded`).
        autocast: convolutions and matrix products in bfloat16: values keep two to three digits, so
            units' hits may change places with others nearly as strong. It makes an index of its
            own; its pictures are projected in float32.

    Raises:
        DatasetError: no such dataset, no image in it that can be read, or an image that changed
            while it was indexed.
        AddressError: no such layer. ParameterError: k, per_group, layers, or autocast of a network
            that is not float32.
        IndexError_: `out` holds other things, or another process is building there.
    """
    opened = open_dataset(dataset)
    root = Path(out)
    _check(opened, k, per_group)
    if autocast:
        _check_autocast(net)
    wanted = _layers(net, layers)
    plan = Plan(
        network=net.fingerprint,
        dataset=opened.fingerprint,
        layers=wanted,
        k=k,
        per_group=per_group,
        block=block_size(net, wanted),
        sprites=sprites,
        made_on=made_on(net),
        autocast=autocast,
    )
    with store.building(root):
        if _finished(root, plan):
            return open_index(root)
        scan = Scan(net, opened, plan)
        if not scan.resume(root):
            store.clear(root)
        ahead = max(plan.block, min(batch, _AHEAD_BYTES // prod(net.input_size)))
        decoder = Decoder(opened, net.preprocess, workers, ahead)
        try:
            reporter = Reporter("scan", scan.done, len(opened), progress, on_progress)
            steps = _here(scan, decoder) if scanner is None else scanner(scan)
            _run_scan(scan, steps, root, checkpoint_every, reporter)
            if sprites:
                artist = Artist(net, scan.tops, scan.digests, plan.block, root)
                artist.draw(decoder, progress, on_progress)
        finally:
            decoder.close()
        store.write_files(root, {store.TABLES: store.pack(scan.tables())})
        store.commit(root, _manifest(scan))
    return open_index(root)


def _finished(root: Path, plan: Plan) -> bool:
    try:
        return store.read_manifest(root).get("key") == plan.key and bool(open_index(root))
    except IndexError_:
        return False


def _here(scan: Scan, decoder: Decoder) -> Iterator[int]:
    for block in decoder(range(scan.done, len(scan.dataset)), scan.plan.block):
        scan.add(block)
        yield len(block)


def _run_scan(scan: Scan, steps: Iterator[int], root: Path, every: int, reporter: Reporter) -> None:
    total, saved = len(scan.dataset), scan.done
    for count in steps:
        reporter.advance(count)
        if scan.done - saved >= every or scan.done == total:
            scan.save(root)
            saved = scan.done
    reporter.close()
    if len(scan.skipped) == total:
        raise DatasetError(
            f"None of the {total} images of '{scan.dataset.name}' can be used; the first: "
            f"{scan.skipped[0].path}: {scan.skipped[0].reason}"
        )


def _manifest(scan: Scan) -> dict[str, Any]:
    dataset, plan = scan.dataset, scan.plan
    skipped = sorted([*scan.skipped, *dataset.passed_over], key=lambda s: (s.path, s.reason))
    entries = dataset.entries
    return {
        "key": plan.key,
        "model": describe(scan.net),
        "dataset": {
            "name": dataset.name,
            "count": len(dataset) - len(scan.skipped),
            "labels": dataset.labels,
            "groups": len(dataset.groups),
            "skipped": [asdict(item) for item in skipped],
            "fingerprint": dataset.fingerprint,
            "content": fingerprint.of_bytes(scan.digests.tobytes()),
        },
        "layers": list(plan.layers),
        "k": plan.k,
        "per_group": plan.per_group,
        "rule": "deconv" if plan.sprites else None,
        "made_on": plan.made_on,
        "autocast": plan.autocast,
        "tiles": {layer: tile_size(scan.net, layer) for layer in plan.layers},
        "images": {
            str(i): {"path": entries[i].path, "label": entries[i].label, "group": entries[i].group}
            for i in scan.winners()
        },
    }
