"""An index opened for reading: each unit's strongest images, statistics and pictures.

It needs neither the network nor torch. `build_index` makes one; `open_index` checks every file
against its hash and refuses what is corrupt, foreign or unfinished.

Coordinates are (y, x): `Hit.position` in the unit's own map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deconvnet.address import Unit
from deconvnet.errors import AddressError, IndexError_, nearest
from deconvnet.index import store
from deconvnet.index.statistics import UNLABELLED, ChannelStats
from deconvnet.index.topk import EMPTY

_TOP_CLASSES = 5


@dataclass(frozen=True)
class Hit:
    """One of a unit's strongest images.

    Attributes:
        image_id: the image's rank in the dataset.
        path, label, group: as the dataset names them.
        value: the activation, the largest of the unit's map.
        position: (y, x) in the map; of equal values the smallest y, then x.
    """

    image_id: int
    path: str
    value: float
    position: tuple[int, int]
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Histogram:
    """How often a unit's largest activation fell between edges[i] and edges[i + 1]."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class UnitStats:
    """A unit over the whole dataset; each image counts by its spatial maximum.

    Attributes:
        images: how many were seen.
        mean, std, max: of the maxima.
        fire_share: share of images whose maximum exceeds zero.
        dead: it never fires.
        class_means: (label, mean), the largest few first.
        selectivity: (a - b) / (a + b) with a the largest class mean, b the mean of the others;
            None without labels.
        best_class: the label of the largest class mean.
    """

    images: int
    mean: float
    std: float
    max: float
    fire_share: float
    dead: bool
    histogram: Histogram
    class_means: tuple[tuple[str, float], ...]
    selectivity: float | None
    best_class: str | None


@dataclass(frozen=True)
class LayerStats:
    """The same for all channels of a layer, to sort and filter; every array is [channels].

    `top` is the first hit's value; `selectivity` is NaN and `best_class` None where there is none.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    max: NDArray[np.float32]
    top: NDArray[np.float32]
    fire_share: NDArray[np.float64]
    dead: NDArray[np.bool_]
    selectivity: NDArray[np.float64]
    best_class: tuple[str | None, ...]


class Fingerprinted(Protocol):
    """A network, as far as an index needs one to tell whether it is its own."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def fingerprint(self) -> str:
        """Of weights, architecture and preprocessing."""


class ActivationIndex:
    """A dataset's strongest images for every unit of a network.

    Attributes:
        path: its folder.
        id: hash of its content.
        model: the network, as `describe` gives it.
        dataset: name, count (images seen), labels, skipped [{path, reason}], fingerprint, content.
        k: hits kept per unit; per_group: how many of them one group may take.
        layers: their names, from the image upwards.
        rule: how the sheets' projections were made; None: there are no sheets.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.id: str = manifest["id"]
        self.model: dict[str, Any] = manifest["model"]
        self.dataset: dict[str, Any] = manifest["dataset"]
        self.k: int = manifest["k"]
        self.per_group: int | None = manifest["per_group"]
        self.layers: tuple[str, ...] = tuple(manifest["layers"])
        self.rule: str | None = manifest["rule"]
        self._tiles: dict[str, int] = manifest["tiles"]
        self._images: dict[str, dict[str, Any]] = manifest["images"]

    def __repr__(self) -> str:
        return (
            f"<ActivationIndex {self.model['name']} over {self.dataset['count']} images of "
            f"{self.dataset['name']}: {', '.join(self.layers)}; k={self.k}>"
        )

    @cached_property
    def _tables(self) -> dict[str, NDArray[Any]]:
        return store.read_tables(self.path)

    @cached_property
    def _stats(self) -> dict[str, ChannelStats]:
        found = {}
        for layer in self.layers:
            start = f"{layer}/stats/"
            found[layer] = ChannelStats.restore(
                {n.removeprefix(start): t for n, t in self._tables.items() if n.startswith(start)}
            )
        return found

    def _top(self, layer: str, column: str) -> NDArray[Any]:
        return self._tables[f"{layer}/top/{column}"]

    def _check(self, layer: str, channel: int = 0) -> None:
        if layer not in self.layers:
            raise AddressError(
                f"Layer '{layer}' is not in the index; {nearest(layer, self.layers)}."
            )
        if not 0 <= channel < self.channels(layer):
            raise AddressError(
                f"Unit '{layer}:{channel}' does not exist: {layer} has channels 0 to "
                f"{self.channels(layer) - 1}."
            )

    def channels(self, layer: str) -> int:
        """How many units a layer has."""
        if layer not in self.layers:
            self._check(layer)
        return len(self._top(layer, "value"))

    def top(self, unit: str | Unit) -> list[Hit]:
        """A unit's strongest images, best first; fewer than k where the dataset has fewer.

        A unit that fires on fewer images than that is filled up with activations of zero.
        """
        unit = Unit.parse(unit)
        self._check(unit.layer, unit.channel)
        columns = (self._top(unit.layer, c)[unit.channel] for c in ("image", "value", "y", "x"))
        hits = []
        for image, value, y, x in zip(*(column.tolist() for column in columns), strict=True):
            if image != EMPTY:
                known = self._images[str(image)]
                hits.append(
                    Hit(image, known["path"], value, (y, x), known["label"], known["group"])
                )
        return hits

    def stats(self, unit: str | Unit) -> UnitStats:
        """A unit's statistics over the whole dataset."""
        unit = Unit.parse(unit)
        self._check(unit.layer, unit.channel)
        stats, channel = self._stats[unit.layer], unit.channel
        layer = self.layer_stats(unit.layer)
        edges, counts = stats.histogram(channel)
        selectivity = float(layer.selectivity[channel])
        return UnitStats(
            images=stats.count,
            mean=float(layer.mean[channel]),
            std=float(layer.std[channel]),
            max=float(layer.max[channel]),
            fire_share=float(layer.fire_share[channel]),
            dead=bool(layer.dead[channel]),
            histogram=Histogram(tuple(edges.tolist()), tuple(counts.tolist())),
            class_means=self._class_means(stats, channel),
            selectivity=None if np.isnan(selectivity) else selectivity,
            best_class=layer.best_class[channel],
        )

    def _class_means(self, stats: ChannelStats, channel: int) -> tuple[tuple[str, float], ...]:
        labels = self.dataset["labels"]
        means = stats.class_total[:, channel] / np.maximum(stats.class_count, 1)
        means[stats.class_count == 0] = -np.inf
        order = np.argsort(-means, kind="stable")[:_TOP_CLASSES]
        return tuple((labels[i], float(means[i])) for i in order if np.isfinite(means[i]))

    def layer_stats(self, layer: str) -> LayerStats:
        """The statistics of all of a layer's units, as arrays."""
        self._check(layer)
        if layer not in self._layer_stats:
            stats, labels = self._stats[layer], self.dataset["labels"]
            best = (labels[i] if i != UNLABELLED else None for i in stats.best_class().tolist())
            self._layer_stats[layer] = LayerStats(
                mean=stats.mean,
                std=stats.std,
                max=stats.largest,
                top=self._top(layer, "value")[:, 0],
                fire_share=stats.fire_share,
                dead=stats.fired == 0,
                selectivity=stats.selectivity(),
                best_class=tuple(best),
            )
        return self._layer_stats[layer]

    @cached_property
    def _layer_stats(self) -> dict[str, LayerStats]:
        return {}

    def class_means(self, layer: str) -> NDArray[np.float64]:
        """float64 [labels, channels] in the order of `dataset["labels"]`."""
        self._check(layer)
        return self._stats[layer].class_means

    def tile(self, layer: str) -> int:
        """The side of a layer's tiles in its sheets, in pixels.

        The layer's receptive field, centred on the activation, where that fits into the input; else
        the side of the whole input.
        """
        self._check(layer)
        return self._tiles[layer]

    def sprite(self, layer: str, channel: int) -> Path:
        """A unit's sheet, PNG: its k projections in the left half, the k patches in the right.

        Each half has `COLUMNS` tiles per row, best first, without gaps; tiles beyond the last hit
        and what lies outside the image are mid-grey.

        Raises:
            IndexError_: the index was built without sprites.
        """
        self._check(layer, channel)
        if self.rule is None:
            raise IndexError_(
                f"Index '{self.path}' was built without sprites. Build it again with them."
            )
        return self.path / store.sprite_path(layer, channel)

    def provenance(self, layer: str, channel: int) -> str:
        """What a unit's sheet shows, with its contrast, in one line."""
        with Image.open(self.sprite(layer, channel)) as sheet:
            return str(sheet.info.get("Description", ""))

    def image(self, image_id: int) -> Path:
        """A winner's picture as the network saw it, PNG of the input's size.

        Raises:
            IndexError_: no unit's hits have the image, or the index was built without sprites.
        """
        path = self.path / store.image_path(image_id)
        if str(image_id) not in self._images or self.rule is None:
            raise IndexError_(f"Index '{self.path}' keeps no picture of image {image_id}.")
        return path


def open_index(path: str | Path, net: Fingerprinted | None = None) -> ActivationIndex:
    """Open a finished index.

    Args:
        path: its folder.
        net: where given, the index must have been built with exactly this network.

    Raises:
        IndexError_: missing, unfinished, corrupt, of another format or of another network; with
            the command that builds it.
    """
    root = Path(path)
    manifest = store.read_manifest(root)
    store.verify(root, manifest)
    index = ActivationIndex(root, manifest)
    own = index.model["weights_hash"]
    if net is not None and net.fingerprint != own:
        raise IndexError_(
            f"Index '{root}' was built with {index.model['name']} {own[:12]}, expected {net.name} "
            f"{net.fingerprint[:12]}: weights, architecture or preprocessing differ. "
            f"{store.rebuild(root, manifest)}"
        )
    return index
