"""The datasets that the operator has registered, opened when first asked for."""

import threading
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from deconvnet.data.dataset import Dataset, open_dataset
from deconvnet.errors import DatasetError, InputError, nearest
from deconvnet_app.errors import Refusal


class Datasets:
    """Datasets by id; a request names an id, never a path.

    Args:
        roots: id → folder, tar or zip.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = dict(roots)
        self._open: dict[str, tuple[Dataset, dict[str, int]]] = {}
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        """Every id, sorted."""
        return sorted(self._roots)

    def get(self, dataset_id: str) -> Dataset:
        """The dataset, its files listed once.

        Raises:
            Refusal: 404 for an unknown id; 503 if the data cannot be opened now.
        """
        return self._opened(dataset_id)[0]

    def read(self, dataset_id: str, path: str) -> bytes:
        """The bytes of one file that the dataset lists.

        Raises:
            OSError: it lists none of that name, or the file has gone or cannot be read.
        """
        dataset, ranks = self._opened(dataset_id)
        if path not in ranks:
            raise FileNotFoundError(path)
        try:
            return dataset.read(ranks[path])
        except InputError as error:
            raise OSError(str(error)) from error

    def matching(self, dataset_id: str, pattern: str) -> list[str]:
        """The paths that a pattern takes: * ? [] within a name, ** for any folders."""
        wanted = tuple(pattern.split("/"))
        entries = self.get(dataset_id).entries
        return [entry.path for entry in entries if _takes(wanted, tuple(entry.path.split("/")))]

    def _opened(self, dataset_id: str) -> tuple[Dataset, dict[str, int]]:
        if dataset_id not in self._roots:
            hint = nearest(dataset_id, self.ids())
            raise Refusal(404, "not_found", f"Dataset '{dataset_id[:80]}' is unknown; {hint}.")
        with self._lock:
            if dataset_id not in self._open:
                try:
                    dataset = open_dataset(self._roots[dataset_id], name=dataset_id)
                except (DatasetError, OSError) as error:
                    detail = f"Dataset '{dataset_id}' cannot be opened; see the server's log."
                    raise Refusal(503, "dataset_error", detail) from error
                ranks = {entry.path: rank for rank, entry in enumerate(dataset.entries)}
                self._open[dataset_id] = (dataset, ranks)
            return self._open[dataset_id]


def _takes(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a path matches, in time linear in both lengths' product."""
    reached = {0}
    for part in parts:
        reached = _past_folders(pattern, reached)
        reached = {
            at if pattern[at] == "**" else at + 1
            for at in reached
            if at < len(pattern) and (pattern[at] == "**" or fnmatchcase(part, pattern[at]))
        }
    return len(pattern) in _past_folders(pattern, reached)


def _past_folders(pattern: tuple[str, ...], reached: set[int]) -> set[int]:
    """`**` may stand for no folder at all."""
    found = set(reached)
    for at in range(len(pattern)):
        if at in found and pattern[at] == "**":
            found.add(at + 1)
    return found
