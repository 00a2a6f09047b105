"""Datasets: which images there are, in which order, and how each is read.

A dataset is a folder (nested folders are labels), a tar or zip (compressed or not), several of
these together, or a torchvision dataset. Its images are ordered by path; an image's id is its
rank in that order, so ids are the same for any batch size, worker count or resumption.

Files are taken for images by their suffix. Symbolic links that leave the root, loops, FIFOs,
devices and folders that may not be read are passed over and listed in `Dataset.passed_over`;
nothing is opened to find that out.

A dataset carries groups (frames of one video, tiles of one photograph) in a text file `groups.tsv`
at its root: a path, a tab and the group's name on each line.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from deconvnet.data.sources import (
    SUFFIXES,
    Entry,
    GroupOf,
    HeldSource,
    Skipped,
    Source,
    TorchvisionSource,
    source_of,
)
from deconvnet.errors import DatasetError, InputError, reason


class Dataset:
    """An ordered list of images.

    Args:
        name: how it is called in messages and in an index.
        sources: (prefix, source) pairs; the prefix keeps the paths of several apart.
        group: maps a path to its group, in place of what the sources carry.

    Attributes:
        entries: the images, by id.
        passed_over: what was found but is no readable regular file, by path.
    """

    def __init__(
        self, name: str, sources: Sequence[tuple[str, Source]], group: GroupOf | None = None
    ) -> None:
        self.name = name
        found: list[tuple[Entry, Source, str]] = []
        for prefix, source in sources:
            for entry in source.entries():
                path = prefix + entry.path
                of_group = group(path) if group else entry.group
                found.append((replace(entry, path=path, group=of_group), source, entry.path))
        found.sort(key=lambda item: item[0].path)
        self.entries = [entry for entry, _, _ in found]
        self._where = [(source, path) for _, source, path in found]
        self.passed_over = sorted(
            (
                Skipped(prefix + left.path, left.reason)
                for prefix, source in sources
                for left in source.passed_over
            ),
            key=lambda left: left.path,
        )
        if not self.entries:
            raise DatasetError(
                f"Dataset '{name}' has no images ({', '.join(SUFFIXES)}). "
                "Give a folder, tar or zip that holds some."
            )

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def labels(self) -> list[str]:
        """The distinct labels, sorted; empty where there are none."""
        return sorted({entry.label for entry in self.entries if entry.label is not None})

    @property
    def groups(self) -> list[str]:
        """The distinct groups, sorted; empty where there are none."""
        return sorted({entry.group for entry in self.entries if entry.group is not None})

    @property
    def fingerprint(self) -> str:
        """A hash of every path, size, label and group, in order."""
        digest = hashlib.sha256()
        for entry in self.entries:
            line = f"{entry.path}\0{entry.size}\0{entry.label}\0{entry.group}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def read(self, image_id: int) -> bytes:
        """The file's bytes.

        Raises:
            InputError: it has gone or cannot be read.
        """
        source, path = self._where[image_id]
        try:
            return source.read(path)
        except Exception as error:  # archives fail in many ways; each is one image's matter
            named = self.entries[image_id].path
            raise InputError(f"Image '{named}' cannot be read: {reason(error)}.") from error

    def image(self, image_id: int) -> Image.Image:
        """The picture, opened but not yet decoded.

        Raises:
            InputError: it has gone, cannot be read, or is no image.
        """
        source, path = self._where[image_id]
        try:
            return source.open(path)
        except InputError:
            raise
        except Exception as error:  # decoders fail in many ways; each is one image's matter
            named = self.entries[image_id].path
            raise InputError(f"Image '{named}' cannot be opened: {reason(error)}.") from error

    def part(self, first: int, last: int) -> "Dataset":
        """The images first … last - 1, their files read into memory, as a dataset of its own.

        It can travel to another machine. An image that cannot be read says so when it is opened.
        """
        entries = self.entries[first:last]
        held: dict[str, bytes | Exception] = {}
        for entry, (source, path) in zip(entries, self._where[first:last], strict=True):
            try:
                held[entry.path] = source.read(path)
            except InputError as error:
                held[entry.path] = error
            except Exception as error:  # as above; not every one of these can travel
                held[entry.path] = OSError(reason(error))
        return Dataset(self.name, [("", HeldSource(entries, held))])


def _sources(paths: Sequence[Path]) -> list[tuple[str, Source]]:
    if len(paths) == 1:
        return [("", source_of(paths[0]))]
    names = [path.name for path in paths]
    repeated = {name for name in names if names.count(name) > 1}
    return [
        (f"{path.name}#{rank}/" if path.name in repeated else f"{path.name}/", source_of(path))
        for rank, path in enumerate(paths)
    ]


def open_dataset(what: Any, *, name: str | None = None, group: GroupOf | None = None) -> Dataset:
    """A `Dataset` from a path, several paths, a torchvision dataset or a `Dataset`.

    Raises:
        DatasetError: nothing there, not a dataset, or no images in it.
    """
    if isinstance(what, Dataset):
        return what
    if isinstance(what, str | Path):
        what = [what]
    if isinstance(what, list | tuple) and "" in what:
        raise DatasetError("A dataset's path is empty; '.' is the folder that you are in.")
    if isinstance(what, list | tuple) and what and isinstance(what[0], str | Path):
        paths = [Path(item) for item in what]
        named = name or paths[0].resolve().name.split(".")[0]
        return Dataset(named, _sources(paths), group)
    if hasattr(what, "__getitem__") and hasattr(what, "__len__"):
        return Dataset(name or type(what).__name__, [("", TorchvisionSource(what))], group)
    raise DatasetError(f"{type(what).__name__} is not a dataset: give a path or a dataset.")
