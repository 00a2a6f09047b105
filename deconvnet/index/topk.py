"""The strongest k activations of every channel, kept while images stream by.

One order decides everything: (-value, image id, y, x). It is total, so the result does not depend
on batches, shards or the order in which they arrive; adding an entry twice changes nothing.

With `per_group` = N, a channel's list is the first k of the full sort after every entry that is
preceded by N others of its own group has been struck out. Keeping k capped entries per part is
enough: whatever is struck out or pushed out of a part has, in the whole, at least the same entries
before it, because the count of uncapped entries ahead of it can only grow with the set. So
`merge` of capped lists equals the capped list of everything.

NumPy only: indexes are opened and merged where there is no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deconvnet.errors import ParameterError

_Rows = dict[str, NDArray[Any]]  # columns of one length, by the names of _DTYPES and "channel"

EMPTY = -1  # image id of a place that nothing has taken yet
MOST = 10_000  # entries of a channel
UNGROUPED = -1  # group of an entry that no cap applies to

_DTYPES = {"value": np.float32, "image": np.int64, "y": np.int32, "x": np.int32, "group": np.int64}


def _runs(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """The rank of each row within its run of equal keys; the keys are sorted. int64 [m]."""
    new = np.ones(len(keys[0]), bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(new)
    ranks: NDArray[np.int64] = np.arange(len(new)) - np.repeat(starts, np.diff([*starts, len(new)]))
    return ranks


@dataclass
class TopK:
    """k entries for each of `channels` channels, best first.

    Attributes:
        channels, k: the table's shape; k ≥ 1.
        per_group: how many entries of one group a channel may hold; None: any number.
        value: float32 [channels, k], -inf where empty.
        image: int64 [channels, k], EMPTY where empty.
        y, x: int32 [channels, k], the position in the channel's map.
        group: int64 [channels, k], UNGROUPED where the image has none.
    """

    channels: int
    k: int
    per_group: int | None = None
    value: NDArray[np.float32] = field(init=False)
    image: NDArray[np.int64] = field(init=False)
    y: NDArray[np.int32] = field(init=False)
    x: NDArray[np.int32] = field(init=False)
    group: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST:
            raise ParameterError(f"k is {self.k}, expected 1 to {MOST}.")
        if self.per_group is not None and self.per_group < 1:
            raise ParameterError(f"per_group is {self.per_group}, expected 1 or more, or None.")
        shape = (self.channels, self.k)
        self.value = np.full(shape, -np.inf, np.float32)
        self.image = np.full(shape, EMPTY, np.int64)
        self.y, self.x = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        self.group = np.full(shape, UNGROUPED, np.int64)

    def candidates(
        self, values: NDArray[np.float32], image: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of `values` [n, channels] may enter; the others need no position.

        Args:
            values: the maxima of n images; not NaN.
            image: their ids, ascending, [n].

        Returns:
            bool [n, channels]: what comes before the channel's last entry and, without a cap, has
            fewer than k of the n before it.
        """
        last, last_image = self.value[:, -1], self.image[:, -1]
        empty = last_image == EMPTY
        admitted: NDArray[np.bool_] = (values > last) | empty
        admitted |= (values == last) & (image[:, None] < last_image)
        if self.per_group is None and len(values) > self.k:
            # Stable: of equal values the smaller ids, which stand first, go first.
            order = np.argsort(-values, axis=0, kind="stable")
            np.put_along_axis(admitted, order[self.k :], False, 0)
        return admitted

    def add(
        self,
        channel: NDArray[np.int64],
        value: NDArray[np.float32],
        image: NDArray[np.int64],
        *,
        y: NDArray[np.int32],
        x: NDArray[np.int32],
        group: NDArray[np.int64] | None = None,
    ) -> None:
        """Enter m activations, in any order; each argument is [m].

        Args:
            channel: the channel each belongs to.
            value: finite.
            group: UNGROUPED where an image has none; None: none of them has.

        Raises:
            ParameterError: a value is NaN or infinite: it has no place in the order.
        """
        if not np.isfinite(value).all():
            raise ParameterError("An activation is NaN or infinite; leave its image out.")
        touched = np.unique(channel)
        held = self.image[touched] != EMPTY
        old = {name: getattr(self, name)[touched][held] for name in _DTYPES}
        new = {"value": value, "image": image, "y": y, "x": x, "group": group}
        if group is None:
            new["group"] = np.full(len(value), UNGROUPED)
        rows = {
            name: np.concatenate([old[name], np.asarray(new[name], dtype)])
            for name, dtype in _DTYPES.items()
        }
        # + 0.0 makes -0.0 and 0.0 the same bits.
        rows["value"] = rows["value"] + np.float32(0.0)
        rows["channel"] = np.concatenate([np.repeat(touched, held.sum(1)), channel])
        self._place(touched, self._ranked(rows))

    def _ranked(self, rows: _Rows) -> _Rows:
        """Rows in order, without doubles, without those beyond their group's cap."""
        keys = ("x", "y", "image")
        order = np.lexsort([*(rows[key] for key in keys), -rows["value"], rows["channel"]])
        rows = {name: row[order] for name, row in rows.items()}
        doubles = _runs(*(rows[key] for key in ("channel", "value", *keys)))
        rows = {name: row[doubles == 0] for name, row in rows.items()}
        if self.per_group is None:
            return rows
        # lexsort is stable: inside one channel's group the rows stay in their order.
        by_group = np.lexsort([rows["group"], rows["channel"]])
        rank = np.empty(len(by_group), np.int64)
        rank[by_group] = _runs(rows["channel"][by_group], rows["group"][by_group])
        kept = (rank < self.per_group) | (rows["group"] == UNGROUPED)
        return {name: row[kept] for name, row in rows.items()}

    def _place(self, touched: NDArray[np.int64], rows: _Rows) -> None:
        rank = _runs(rows["channel"])
        kept = rank < self.k
        at = (rows["channel"][kept], rank[kept])
        for name in _DTYPES:
            table = getattr(self, name)
            empty = {"value": -np.inf, "image": EMPTY, "group": UNGROUPED}.get(name, 0)
            table[touched] = empty
            table[at] = rows[name][kept]

    def merge(self, other: "TopK") -> None:
        """Take in another table of the same shape and cap, made over other images.

        Raises:
            ParameterError: the tables differ in channels, k or cap.
        """
        mine, its = ((t.channels, t.k, t.per_group) for t in (self, other))
        if mine != its:
            raise ParameterError(
                f"Tables of (channels, k, per_group) {mine} and {its} cannot be merged."
            )
        channel, place = np.nonzero(other.image != EMPTY)
        columns = {name: getattr(other, name)[channel, place] for name in _DTYPES}
        self.add(channel, **columns)

    def state(self) -> dict[str, NDArray[Any]]:
        """The tables by name, to be stored."""
        return {name: getattr(self, name) for name in _DTYPES}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        for name, dtype in _DTYPES.items():
            getattr(self, name)[...] = np.asarray(state[name], dtype)
