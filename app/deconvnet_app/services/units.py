"""The indexes that are served, and what pages ask of them: which units, in which order, where."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deconvnet.address import Unit
from deconvnet.errors import nearest
from deconvnet.index.reader import ActivationIndex, LayerStats
from deconvnet_app.errors import Refusal
from deconvnet_app.numbers import whole_number

Channels = NDArray[np.int64]

_SORTS: Mapping[str, Callable[[LayerStats], NDArray[np.floating]]] = {
    "channel": lambda stats: np.arange(len(stats.mean), dtype=float),
    "activation": lambda stats: -stats.top.astype(float),
    "mean": lambda stats: -stats.mean,
    "often": lambda stats: -stats.fire_share,
    "sparse": lambda stats: np.where(stats.dead, np.inf, stats.fire_share),
    "selectivity": lambda stats: -np.nan_to_num(stats.selectivity, nan=-1.0),
}
SORTS = tuple(_SORTS)
ONLY = ("", "alive", "dead")


def require_layer(index: ActivationIndex, layer: str) -> str:
    """The layer's name; raises Refusal (404) with the nearest ones."""
    if layer not in index.layers:
        hint = nearest(layer, index.layers)
        raise Refusal(404, "not_found", f"Layer '{layer[:80]}' is not in the index; {hint}.")
    return layer


def select(
    index: ActivationIndex, layer: str, sort: str, only: str, label: str, search: str
) -> Channels:
    """The channels of a layer that match, in order; equals by number.

    Args:
        sort: one of SORTS.
        only: one of ONLY.
        label: the best class must be this one; "": any.
        search: a channel's number, or a part of the best class; "": any.
    """
    stats = index.layer_stats(layer)
    keep = np.ones(len(stats.mean), dtype=bool)
    if only:
        keep &= stats.dead == (only == "dead")
    if label:
        keep &= np.array([best == label for best in stats.best_class])
    words = search.strip().casefold()
    if (number := whole_number(words)) is not None:
        keep &= np.arange(len(keep)) == number
    elif words:
        keep &= np.array([words in (best or "").casefold() for best in stats.best_class])
    order = np.lexsort((np.arange(len(keep)), _SORTS[sort](stats)))
    return order[keep[order]]


def statistic(stats: LayerStats, sort: str) -> NDArray[np.floating]:
    """The numbers that a sort goes by, [channels]."""
    by = {"mean": stats.mean, "often": stats.fire_share, "sparse": stats.fire_share}
    return by.get(sort, stats.selectivity if sort == "selectivity" else stats.top)


@lru_cache(maxsize=256)
def _tellingness(index: ActivationIndex, layer: str) -> NDArray[np.float64]:
    """[channels]: how far the weakest hit stands out, in standard deviations, times selectivity².

    Without labels the first factor alone; -inf for a dead unit.
    """
    stats = index.layer_stats(layer)
    weakest = np.array(
        [index.top(Unit(layer, channel))[-1].value for channel in range(len(stats.mean))]
    )
    apart = (weakest - stats.mean) / np.maximum(stats.std, 1e-12)
    score = apart * np.where(np.isnan(stats.selectivity), 1.0, stats.selectivity) ** 2
    return np.where(stats.dead, -np.inf, score)


def telling(index: ActivationIndex, layer: str, count: int, offset: int = 0) -> list[int]:
    """Units worth showing: they are alive, and their hits stand out and have something in common.

    `count` of them are spread over the best half, so that they differ; the best comes first.
    """
    score = _tellingness(index, layer)
    alive = int(np.isfinite(score).sum())
    best = np.argsort(-score, kind="stable")[: min(alive, max(count, alive // 2))]
    if not len(best):
        return []
    places = (np.arange(count) * len(best) // count + offset) % len(best)
    return [int(best[place]) for place in dict.fromkeys(places.tolist())]


def spatial_layers(index: ActivationIndex) -> list[str]:
    """The layers whose units see a part of the image, from the image upwards."""
    shapes = {row["name"]: row["shape"] for row in index.model["layers"]}
    return [name for name in index.layers if len(shapes.get(name, ())) == 3]


def class_name(index: ActivationIndex, label: str | None) -> str:
    """What people call a folder's label: the first synonym of the network's class of that label."""
    if label is None:
        return ""
    labels: Sequence[str] = index.model.get("labels") or ()
    classes: Sequence[str] = index.model.get("classes") or ()
    name = dict(zip(labels, classes, strict=False)).get(label, label)
    return name.split(",", 1)[0].replace("_", " ")


def similar(index: ActivationIndex, unit: Unit, count: int) -> list[tuple[int, int]]:
    """Units of the same layer that like the same images: (channel, images shared), most first."""
    mine = {hit.image_id for hit in index.top(unit)}
    shared = []
    for channel in np.flatnonzero(~index.layer_stats(unit.layer).dead).tolist():
        if channel != unit.channel:
            images = {hit.image_id for hit in index.top(Unit(unit.layer, channel))}
            shared.append((len(mine & images), channel))
    best = sorted(shared, key=lambda pair: (-pair[0], pair[1]))[:count]
    return [(channel, common) for common, channel in best if common]
