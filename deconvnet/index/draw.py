"""The pictures of an index: for every unit a sheet of its projections beside its patches.

A sheet has two halves of k tiles, three to a row, without gaps: left the projections of
the unit's hits on one shared contrast, right what the unit saw, in the same order. A tile is the
unit's receptive field, centred on the activation, where the input is as large; else the whole
input. What lies outside the image, and places without a hit, are mid-grey.

Units are drawn in groups whose projections fit into memory together. A group visits each of its
images once, whatever the number of units that it won; which images share a batch depends on the
hits alone, so the pictures do not depend on how often a build was killed.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deconvnet import render
from deconvnet.data.decode import DecodedImage, ReadAhead
from deconvnet.errors import DatasetError
from deconvnet.execution import forward
from deconvnet.execution.forward import stack
from deconvnet.execution.free_memory import give_back
from deconvnet.geometry.region import INPUT
from deconvnet.graph.network import Network
from deconvnet.index import store
from deconvnet.index.progress import OnProgress, Reporter
from deconvnet.index.sheet import Pixels, paste, png, sheet, tile_origin, tile_size
from deconvnet.index.store import COLUMNS
from deconvnet.index.topk import EMPTY, TopK
from deconvnet.ops.base import Rule
from deconvnet.projection.descend import descend_crops

_GROUP_BYTES = 20 * 2**20  # of the projections and patches of one group
_SHEETS = 16  # written together


@dataclass(frozen=True)
class Share:
    """The part of a layer's units, first … last - 1, that belongs to a group."""

    layer: str
    first: int
    last: int


@dataclass
class _Canvas:
    """The tiles of a share while they are drawn: [units, k, 3, t, t] each."""

    projections: NDArray[np.float32]
    patches: Pixels


@dataclass(frozen=True)
class _Visit:
    """A batch of winning images: their ids, ascending, their pictures and their forward pass."""

    ids: NDArray[np.int64]
    pixels: Sequence[Pixels]
    recorded: forward.Record


def grouped(sizes: Mapping[str, tuple[int, int]], budget: int) -> Iterator[list[Share]]:
    """Split layers of (units, bytes per unit) into groups of at most `budget` bytes, in order."""
    group: list[Share] = []
    free = budget
    for layer, (units, size) in sizes.items():
        first = 0
        while first < units:
            fitting = min(units - first, max(free, 0) // size)
            if fitting == 0 and group:
                yield group
                group, free = [], budget
                continue
            last = first + max(fitting, 1)
            group.append(Share(layer, first, last))
            free, first = free - (last - first) * size, last
    if group:
        yield group


class Artist:
    """Draws the sheets of all units into an index's folder.

    Args:
        tops: the hits of each layer.
        digests: of each image as it was when it was indexed; see `DecodedImage.digest`.
        block: images per forward pass, and activations per walk down.
        root: the index's folder.
        rule: of the projections.
    """

    def __init__(
        self,
        net: Network,
        tops: Mapping[str, TopK],
        digests: NDArray[np.uint64],
        block: int,
        root: Path,
        rule: Rule,
    ) -> None:
        self.rule: Rule = rule
        self.net, self.tops, self.digests, self.block, self.root = net, tops, digests, block, root
        self._by = f"{net.name} {net.fingerprint[:12]}"
        self.k = next(iter(tops.values())).k
        self.tiles = {layer: tile_size(net, layer) for layer in tops}
        self._kept: set[int] = set()  # images that are written already

    def draw(self, decoder: ReadAhead, progress: bool, call: OnProgress | None) -> None:
        """Draw every group whose sheets are not all there yet.

        Raises:
            DatasetError: a winning image has changed or gone since it was indexed.
        """
        places = -(-self.k // COLUMNS) * COLUMNS
        sizes = {
            layer: (top.channels, places * 3 * self.tiles[layer] ** 2 * 5)  # float32 and uint8
            for layer, top in self.tops.items()
        }
        total = sum(top.channels for top in self.tops.values()) * self.k
        reporter = Reporter("draw", 0, total, progress, call)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for group in grouped(sizes, _GROUP_BYTES):
                if self._drawn(group):
                    reporter.advance(sum(share.last - share.first for share in group) * self.k)
                else:
                    self._draw_group(group, decoder, threads, reporter)
        reporter.close()

    def _drawn(self, group: Sequence[Share]) -> bool:
        return all(
            (self.root / store.sprite_path(share.layer, channel)).is_file()
            for share in group
            for channel in range(share.first, share.last)
        )

    def _draw_group(
        self,
        group: Sequence[Share],
        decoder: ReadAhead,
        threads: ThreadPoolExecutor,
        reporter: Reporter,
    ) -> None:
        canvases = [self._canvas(share) for share in group]
        images = np.unique(
            np.concatenate([self.tops[s.layer].image[s.first : s.last].ravel() for s in group])
        )
        ids = [image_id for image_id in images.tolist() if image_id != EMPTY]
        layers = list(dict.fromkeys(share.layer for share in group))
        for block in decoder(ids, self.block):
            self._check(block)
            pictures = [picture for _, picture in block]
            visit = _Visit(
                np.array([image_id for image_id, _ in block]),
                [picture.pixels.numpy() for picture in pictures if picture.pixels is not None],
                forward.record(
                    self.net,
                    stack(self.net, [one.pixels for one in pictures], len(block)),
                    layers,
                    self.rule,
                ),
            )
            give_back()  # what the way up took, before the way down takes more
            for share, canvas in zip(group, canvases, strict=True):
                reporter.advance(self._paint(share, canvas, visit))
            self._keep(block, threads)
            give_back()
        for share, canvas in zip(group, canvases, strict=True):
            self._write(share, canvas, threads)
            give_back()

    def _canvas(self, share: Share) -> _Canvas:
        side, units = self.tiles[share.layer], share.last - share.first
        shape = (units, -(-self.k // COLUMNS) * COLUMNS, 3, side, side)
        return _Canvas(np.zeros(shape, np.float32), np.full(shape, render.GREY, np.uint8))

    def _check(self, block: Sequence[tuple[int, DecodedImage]]) -> None:
        for image_id, picture in block:
            if picture.digest != int(self.digests[image_id]):
                (self.root / store.CHECKPOINT).unlink(missing_ok=True)
                why = picture.reason or "its pixels are others than when it was indexed"
                raise DatasetError(
                    f"Image {image_id} changed while the dataset was indexed: {why}. "
                    "Run the command again: it begins anew."
                )

    def _paint(self, share: Share, canvas: _Canvas, visit: _Visit) -> int:
        """Put the share's hits in the visited images onto its canvas; how many there were."""
        hits = self._hits(share, visit)
        total = len(hits["unit"])
        for first in range(0, total, self.block):
            part = {name: column[first : first + self.block] for name, column in hits.items()}
            crops, starts = self._descend(share, visit.recorded, part)
            for i, (unit, rank) in enumerate(zip(part["unit"], part["rank"], strict=True)):
                y0, x0 = tile_origin(self.net, share.layer, int(part["y"][i]), int(part["x"][i]))
                offset = (starts[i][0] - y0, starts[i][1] - x0)
                paste(canvas.projections[unit, rank], crops[i], offset)
                paste(canvas.patches[unit, rank], visit.pixels[part["row"][i]], (-y0, -x0))
        return total

    def _hits(self, share: Share, visit: _Visit) -> dict[str, NDArray[Any]]:
        """Columns of the share's hits in the visited images, image by image."""
        top = self.tops[share.layer]
        image = top.image[share.first : share.last]
        unit, rank = np.nonzero(np.isin(image, visit.ids))
        order = np.lexsort([rank, unit, image[unit, rank]])
        unit, rank = unit[order], rank[order]
        at = (unit + share.first, rank)
        row = np.searchsorted(visit.ids, top.image[at])
        hits = {"unit": unit, "rank": rank, "row": row, "channel": at[0]}
        return {**hits, "y": top.y[at], "x": top.x[at], "value": top.value[at]}

    def _descend(
        self, share: Share, recorded: forward.Record, hits: Mapping[str, NDArray[Any]]
    ) -> tuple[list[NDArray[np.float32]], list[tuple[int, int]]]:
        """Each hit's projection, and the first (y, x) of it in the image."""
        device = self.net.device
        rows, channels, ys, xs = (
            torch.from_numpy(hits[name].astype(np.int64)).to(device)
            for name in ("row", "channel", "y", "x")
        )
        seeds = torch.from_numpy(hits["value"]).to(device, self.net.dtype)
        found: dict[int, tuple[NDArray[np.float32], tuple[int, int]]] = {}
        for group, crops in descend_crops(
            self.net, recorded, share.layer, rows, channels, ys, xs, values=seeds
        ):
            boxes = group.boxes[INPUT]
            starts = zip(boxes.tops, boxes.lefts, strict=True)
            found.update(
                zip(group.which, zip(crops.float().cpu().numpy(), starts, strict=True), strict=True)
            )
        pixels, origins = zip(*(found[i] for i in range(len(found))), strict=True)
        return list(pixels), list(origins)

    def _keep(self, block: Sequence[tuple[int, DecodedImage]], threads: ThreadPoolExecutor) -> None:
        """Write the pictures of winners that are not there yet."""
        new = {i: p.pixels for i, p in block if i not in self._kept and p.pixels is not None}
        encoded = threads.map(
            lambda pixels: png(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())), new.values()
        )
        names = (store.image_path(image_id) for image_id in new)
        store.write_files(self.root, dict(zip(names, encoded, strict=True)))
        self._kept.update(new)

    def _write(self, share: Share, canvas: _Canvas, threads: ThreadPoolExecutor) -> None:
        def encode(unit: int) -> tuple[str, bytes]:
            channel = share.first + unit
            drawn = torch.from_numpy(canvas.projections[unit])
            scale = render.shared_scale(list(drawn[: self.k]))
            left = render.signed(torch.from_numpy(sheet(canvas.projections[unit])), scale)
            right = sheet(canvas.patches[unit]).transpose(1, 2, 0)
            line = (
                f"{self._by} {share.layer}:{channel} · left: {self.rule} projections, "
                f"{scale.label}, zero mid-grey; right: patches · best first"
            )
            return store.sprite_path(share.layer, channel), png(np.hstack([left, right]), line)

        for first in range(0, len(canvas.patches), _SHEETS):
            units = range(first, min(first + _SHEETS, len(canvas.patches)))
            store.write_files(self.root, dict(threads.map(encode, units)))
