"""What is counted for every channel while images stream by: how often and how strongly it fires.

Each image gives one number per channel, the spatial maximum m of its map. Kept of them: count, sum,
sum of squares, largest, how many exceed zero, the sum per label, and a histogram sketch.

The sketch has `BINS` bins of equal width w = 2^e on each side of zero; e is per channel, the
smallest for which every |m| < BINS · w. When a larger value comes, neighbouring bins are joined.
Widths are powers of two and bins start at zero, so joining is exact: the sketch depends on the set
of values alone, never on their order.

Selectivity is Morcos et al. 2018 (arXiv:1803.06959), section 2.2: (a - b) / (a + b), where a is the
largest class mean and b the mean of the others'; 0 answers all classes alike, 1 one alone. It is
defined for activities that are not negative; elsewhere it is given as NaN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 64
_LEAST = -100  # exponent of a sketch that has seen nothing but zeros
UNLABELLED = -1

Arrays = dict[str, NDArray[np.generic]]


@dataclass
class ChannelStats:
    """Running statistics of `channels` channels over images with `labels` labels.

    Attributes:
        count: images seen.
        total, squares: float64 [channels].
        largest: float32 [channels], -inf before the first image.
        fired: int64 [channels], images whose maximum exceeds zero.
        class_total: float64 [labels, channels]; class_count: int64 [labels].
        exponent: int64 [channels]; bins: int64 [channels, 2 · BINS].
    """

    channels: int
    labels: int = 0
    count: int = 0
    total: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    largest: NDArray[np.float32] = field(init=False)
    fired: NDArray[np.int64] = field(init=False)
    class_total: NDArray[np.float64] = field(init=False)
    class_count: NDArray[np.int64] = field(init=False)
    exponent: NDArray[np.int64] = field(init=False)
    bins: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.total, self.squares = np.zeros(self.channels), np.zeros(self.channels)
        self.largest = np.full(self.channels, -np.inf, np.float32)
        self.fired = np.zeros(self.channels, np.int64)
        self.class_total = np.zeros((self.labels, self.channels))
        self.class_count = np.zeros(self.labels, np.int64)
        self.exponent = np.full(self.channels, _LEAST, np.int64)
        self.bins = np.zeros((self.channels, 2 * BINS), np.int64)

    def add(self, values: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Count n images: values [n, channels], finite; labels [n], UNLABELLED where there is none.

        Sums are taken image by image, so that they do not depend on how images are batched.
        """
        for row, label in zip(values.astype(np.float64), labels.tolist(), strict=True):
            self.total += row
            self.squares += row * row
            if label != UNLABELLED:
                self.class_total[label] += row
                self.class_count[label] += 1
        self.count += len(values)
        self.fired += (values > 0).sum(0)
        if len(values):
            np.maximum(self.largest, values.max(0), out=self.largest)
            self._sketch(values)

    def _sketch(self, values: NDArray[np.float32]) -> None:
        largest = np.abs(values).max(0)
        _, power = np.frexp(largest)  # largest < 2^power
        needed = np.where(largest > 0, power.astype(np.int64) - int(np.log2(BINS)), _LEAST)
        self._widen(np.maximum(self.exponent, needed))
        place = np.floor(np.ldexp(values.astype(np.float64), -self.exponent)).astype(np.int64)
        flat = place + BINS + np.arange(self.channels) * (2 * BINS)
        self.bins += np.bincount(flat.ravel(), minlength=self.bins.size).reshape(self.bins.shape)

    def _widen(self, exponent: NDArray[np.int64]) -> None:
        steps = np.minimum(exponent - self.exponent, 2 * BINS)
        for channel in np.flatnonzero(steps):
            joined = np.zeros(2 * BINS, np.int64)
            place = (np.arange(-BINS, BINS) >> steps[channel]) + BINS
            np.add.at(joined, place, self.bins[channel])
            self.bins[channel] = joined
        self.exponent = exponent

    def state(self) -> Arrays:
        """Everything as arrays by name, to be stored."""
        names = ("total", "squares", "largest", "fired", "class_total", "class_count")
        state: Arrays = {name: getattr(self, name) for name in (*names, "exponent", "bins")}
        return {**state, "count": np.array([self.count])}

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[np.generic]]) -> "ChannelStats":
        """What `state` gave, as statistics again."""
        stats = cls(len(state["total"]), len(state["class_count"]))
        for name in set(state) - {"count"}:
            setattr(stats, name, np.array(state[name]))
        stats.count = int(state["count"][0])
        return stats

    @property
    def mean(self) -> NDArray[np.float64]:
        """float64 [channels]."""
        return self.total / max(self.count, 1)

    @property
    def std(self) -> NDArray[np.float64]:
        """Of the population. float64 [channels]."""
        spread = self.squares / max(self.count, 1) - self.mean**2
        deviation: NDArray[np.float64] = np.sqrt(np.maximum(spread, 0.0))
        return deviation

    @property
    def fire_share(self) -> NDArray[np.float64]:
        """Share of images whose maximum exceeds zero. float64 [channels]."""
        return self.fired / max(self.count, 1)

    @property
    def class_means(self) -> NDArray[np.float64]:
        """float64 [labels, channels]; NaN for a label without images."""
        count = np.where(self.class_count > 0, self.class_count, np.nan)
        return self.class_total / count[:, None]

    def best_class(self) -> NDArray[np.int64]:
        """The label of the largest mean; UNLABELLED where there are none. int64 [channels]."""
        if not self.class_count.any():
            return np.full(self.channels, UNLABELLED)
        means = np.nan_to_num(self.class_means, nan=-np.inf)
        best: NDArray[np.int64] = means.argmax(0)
        return best

    def selectivity(self) -> NDArray[np.float64]:
        """See the module. float64 [channels]; NaN with fewer than two labels, or never active."""
        means = self.class_means[self.class_count > 0]
        if len(means) < 2:
            return np.full(self.channels, np.nan)
        most = means.max(0)
        others = (means.sum(0) - most) / (len(means) - 1)
        usable = (means >= 0).all(0) & (most + others > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(usable, (most - others) / (most + others), np.nan)

    def histogram(self, channel: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(edges [b + 1], counts [b]) of the sketch, from its first to its last occupied bin.

        A channel that was always zero has one bin, [0, 1).
        """
        held = np.flatnonzero(self.bins[channel])
        first, last = (int(held[0]), int(held[-1]) + 1) if len(held) else (BINS, BINS + 1)
        exponent = self.exponent[channel] if self.exponent[channel] > _LEAST else 0
        edges = np.ldexp(np.arange(first - BINS, last - BINS + 1, dtype=float), exponent)
        return edges, self.bins[channel, first:last].copy()
