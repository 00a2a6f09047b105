"""Scanning a dataset in parts, elsewhere, to the same index bit for bit.

A part is a run of whole blocks, so torch sees the same batches as in one pass. `scan_part` gives
the part's top-k tables, which merge in any order, and every image's maxima in place of sums: adding
floats up is not associative, so whoever merges adds them image by image, in the dataset's order.
A part's files travel with it; nobody else needs to reach the dataset.

What runs `scan_part`, and where, is the caller's: a `Runner`.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from deconvnet.data.dataset import Dataset
from deconvnet.data.decode import ReadAhead
from deconvnet.data.sources import Skipped
from deconvnet.errors import IndexError_
from deconvnet.graph.network import Network
from deconvnet.index import store
from deconvnet.index.scan import Scan, Scanner, ScanPlan, made_on
from deconvnet.index.topk import EMPTY, UNGROUPED, TopK

PART_IMAGES = 512
PART_BYTES = 64 * 2**20  # of files; one block may be more

Runner = Callable[[ScanPlan, Iterator[Dataset]], Iterator[bytes]]
"""What `scan_part` gives for each of the parts, in their order; it may take some ahead."""


class _PartScan(Scan):
    """A scan that keeps maxima where the whole one adds them up."""

    def __init__(self, net: Network, part: Dataset, plan: ScanPlan) -> None:
        super().__init__(net, part, plan)
        self.maxima: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in plan.layers}
        self.ids: dict[str, list[NDArray[np.int64]]] = {layer: [] for layer in plan.layers}

    def count(self, layer: str, ids: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        self.ids[layer].append(ids)
        self.maxima[layer].append(values)

    def packed(self) -> bytes:
        """Everything, with images numbered within the part."""
        named: store.Arrays = {"digests": self.digests}
        for layer in self.plan.layers:
            named.update({f"{layer}/top/{n}": t for n, t in self.tops[layer].state().items()})
            channels = self.tops[layer].channels
            none = np.zeros((0, channels), np.float32)
            named[f"{layer}/maxima"] = np.concatenate([none, *self.maxima[layer]])
            named[f"{layer}/ids"] = np.concatenate([np.zeros(0, np.int64), *self.ids[layer]])
        return store.pack(named, {"skipped": [asdict(one) for one in self.skipped]})


def scan_part(net: Network, part: Dataset, plan: ScanPlan, workers: int | None = None) -> bytes:
    """Scan a part of a dataset (`Dataset.part`), as safetensors for `sharded` to merge.

    Args:
        workers: decoding threads, as of `build_index`.

    Raises:
        IndexError_: the network or what it runs on is not the plan's.
    """
    if (net.fingerprint, made_on(net)) != (plan.network, plan.made_on):
        raise IndexError_(
            f"The part would be scanned by {net.name} {net.fingerprint[:12]} on {made_on(net)}, "
            f"expected {plan.network[:12]} on {plan.made_on}. Use the same network, torch and kind "
            "of device everywhere, and as many threads."
        )
    scan = _PartScan(net, part, plan)
    decoder = ReadAhead(part, net.preprocess, workers, plan.block)
    try:
        for block in decoder(range(len(part)), plan.block):
            scan.add(block)
    finally:
        decoder.close()
    return scan.packed()


def sharded(run: Runner, images: int = PART_IMAGES) -> Scanner:
    """A scanner for `build_index` that has the parts scanned by `run` and merges them.

    Args:
        images: most in a part; rounded down to whole blocks. It changes no byte of the index.
    """

    def scan_parts(scan: Scan) -> Iterator[int]:
        spans = list(_spans(scan, images))
        parts = (scan.dataset.part(first, last) for first, last in spans)
        for (first, last), data in zip(spans, run(scan.plan, parts), strict=True):
            _merge(scan, first, last, data)
            yield last - first

    return scan_parts


def _spans(scan: Scan, images: int) -> Iterator[tuple[int, int]]:
    """(first, last) of each part that is left to scan."""
    entries, block = scan.dataset.entries, scan.plan.block
    first, size = scan.done, 0
    for start in range(scan.done, len(entries), block):
        own = sum(entry.size for entry in entries[start : start + block])
        if start > first and (start + block - first > images or size + own > PART_BYTES):
            yield first, start
            first, size = start, 0
        size += own
    if first < len(entries):
        yield first, len(entries)


def _merge(scan: Scan, first: int, last: int, data: bytes) -> None:
    tables, state = store.unpack(data)
    scan.digests[first:last] = tables["digests"]
    for layer, top in scan.tops.items():
        part = TopK(top.channels, top.k, top.per_group)
        part.load({n: tables[f"{layer}/top/{n}"] for n in part.state()})
        held = part.image != EMPTY
        part.image[held] += first
        # Groups are numbered within the part there, within the dataset here.
        part.group[held] = scan.group_ids[part.image[held]]
        part.group[~held] = UNGROUPED
        top.merge(part)
        scan.count(layer, tables[f"{layer}/ids"] + first, tables[f"{layer}/maxima"])
    scan.skipped += [Skipped(**one) for one in state["skipped"]]
    scan.done = last
