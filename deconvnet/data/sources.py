"""Where a dataset's bytes are: a folder, a tar, a zip, or a torchvision dataset.

Symbolic links that leave the root, loops, FIFOs and devices are passed over, and said so.
"""

import io
import os
import stat
import tarfile
import tempfile
import threading
import weakref
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from PIL import Image

from deconvnet.data.image import open_picture
from deconvnet.errors import DatasetError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
GROUPS_FILE = "groups.tsv"
MAX_FILE_BYTES = 256 * 2**20  # a larger member is refused unread: decompressing it fills the memory

GroupOf = Callable[[str], str | None]


@dataclass(frozen=True)
class Entry:
    """One image: its path below the dataset's root, its label and its group, if any.

    `size` is in bytes; 0 for images that are no files.
    """

    path: str
    size: int
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, and why."""

    path: str
    reason: str


class Source(Protocol):
    """Where the images are."""

    passed_over: list[Skipped]

    def entries(self) -> list[Entry]:
        """Every image, in any order."""

    def open(self, path: str) -> Image.Image:
        """One image, not yet decoded; from several threads at once."""

    def read(self, path: str) -> bytes:
        """One image as a file's bytes; from several threads at once."""


class FileSource(ABC):
    """What sources of files share: labels from folders, groups from `groups.tsv`."""

    def __init__(self) -> None:
        self.passed_over: list[Skipped] = []

    @abstractmethod
    def _sizes(self) -> Iterable[tuple[str, int]]:
        """(path, bytes) of every image, in any order."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The file's bytes."""

    def _groups(self) -> dict[str, str]:
        try:
            text = self.read(GROUPS_FILE).decode()
        except (OSError, KeyError):
            return {}
        except UnicodeDecodeError as error:
            raise DatasetError(f"{GROUPS_FILE} is not UTF-8: {error}.") from error
        rows = [line.split("\t") for line in text.splitlines() if line.strip()]
        if any(len(row) != 2 for row in rows):
            raise DatasetError(f"{GROUPS_FILE} has a line that is not path, tab, group.")
        return dict(rows)

    def entries(self) -> list[Entry]:
        """Entries labelled by their first folder; one folder around everything is passed over."""
        found = sorted(self._sizes())
        groups = self._groups()
        tops = {path.split("/", 1)[0] for path, _ in found}
        deep = all(path.count("/") >= 2 for path, _ in found)
        skip = 1 if len(tops) == 1 and deep else 0
        entries = []
        for path, size in found:
            parts = path.split("/")[skip:]
            label = parts[0] if len(parts) > 1 else None
            entries.append(Entry(path, size, label, groups.get(path)))
        return entries

    def open(self, path: str) -> Image.Image:
        return open_picture(self.read(path))


def is_image(path: str) -> bool:
    """Whether a file counts as an image, by its name."""
    name = PurePosixPath(path).name
    return name.lower().endswith(SUFFIXES) and not name.startswith("._")


class FolderSource(FileSource):
    """A folder with nested folders."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root.resolve()

    def _pass_over(self, path: Path, reason: str) -> None:
        self.passed_over.append(Skipped(path.relative_to(self.root).as_posix(), reason))

    def _walk(self, folder: Path) -> Iterator[tuple[str, int]]:
        try:
            items = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._pass_over(folder, f"folder cannot be read: {error.strerror}")
            return
        for item in items:
            path = Path(item.path)
            if item.is_dir(follow_symlinks=False):
                yield from self._walk(path)
            elif is_image(item.name):
                size = self._size(item, path)
                if size is not None:
                    yield path.relative_to(self.root).as_posix(), size

    def _size(self, item: "os.DirEntry[str]", path: Path) -> int | None:
        try:
            if item.is_symlink() and not path.resolve(strict=True).is_relative_to(self.root):
                self._pass_over(path, "a link that leaves the dataset")
                return None
            info = item.stat()
        except (OSError, RuntimeError):  # RuntimeError: Python before 3.13 on a loop of links
            self._pass_over(path, "a link to nothing, a loop, or not readable")
            return None
        if not stat.S_ISREG(info.st_mode):
            self._pass_over(path, "not a regular file")
            return None
        return info.st_size

    def _sizes(self) -> Iterable[tuple[str, int]]:
        self.passed_over.clear()
        return self._walk(self.root)

    def read(self, path: str) -> bytes:
        try:
            file = (self.root / path).resolve(strict=True)
        except RuntimeError as error:  # Python before 3.13 on a loop of links
            raise OSError("a loop of links") from error
        info = file.stat()
        if not (file.is_relative_to(self.root) and stat.S_ISREG(info.st_mode)):
            raise OSError("no file of the dataset any more")  # it was one when it was listed
        if info.st_size > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return file.read_bytes()


class TarSource(FileSource):
    """A tar; a compressed one is spooled once to a temporary file, for random access."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._at: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        try:
            self._file = self._plain(path) or self._spooled(path)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DatasetError(f"{path} cannot be read as a tar: {error}.") from error

    def _wanted(self, tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
        for member in tar:
            name = str(PurePosixPath(member.name))
            if not (is_image(name) or name == GROUPS_FILE):
                continue
            if not member.isreg() or member.issparse():
                self.passed_over.append(Skipped(name, "not a regular file"))
            elif member.size > MAX_FILE_BYTES:
                self.passed_over.append(Skipped(name, f"larger than {MAX_FILE_BYTES >> 20} MiB"))
            else:
                yield name, member

    def _plain(self, path: Path) -> IO[bytes] | None:
        try:
            tar = tarfile.open(path, "r:")  # noqa: SIM115 - tells an uncompressed tar from others
        except tarfile.ReadError:
            return None
        with tar:
            for name, member in self._wanted(tar):
                self._at[name] = (member.offset_data, member.size)
        stream = path.open("rb")
        weakref.finalize(self, stream.close)
        return stream

    def _spooled(self, path: Path) -> IO[bytes]:
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as self
        weakref.finalize(self, spool.close)
        with tarfile.open(path, "r|*") as tar:
            for name, member in self._wanted(tar):
                stream = tar.extractfile(member)
                if stream is not None:
                    self._at[name] = (spool.tell(), member.size)
                    spool.write(stream.read())
        spool.flush()
        return spool

    def _sizes(self) -> Iterable[tuple[str, int]]:
        return ((name, size) for name, (_, size) in self._at.items() if name != GROUPS_FILE)

    def read(self, path: str) -> bytes:
        offset, size = self._at[path]
        with self._lock:  # one position in the file for all threads
            self._file.seek(offset)
            return self._file.read(size)


class ZipSource(FileSource):
    """A zip."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DatasetError(f"{path} cannot be read as a zip: {error}.") from error

    def _sizes(self) -> Iterable[tuple[str, int]]:
        return {
            info.filename: info.file_size
            for info in self._zip.infolist()
            if not info.is_dir() and is_image(info.filename)
        }.items()

    def read(self, path: str) -> bytes:
        if self._zip.getinfo(path).file_size > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return self._zip.read(path)


class TorchvisionSource:
    """A torchvision dataset whose samples are PIL images, or tuples that begin with one."""

    def __init__(self, samples: Sequence[Any]) -> None:
        self.passed_over: list[Skipped] = []
        self._samples = samples
        self._classes: Sequence[str] = getattr(samples, "classes", ())

    def entries(self) -> list[Entry]:
        targets = getattr(self._samples, "targets", None)
        entries = []
        for rank in range(len(self._samples)):
            label = None
            if targets is not None:
                target = int(targets[rank])
                label = str(self._classes[target]) if self._classes else str(target)
            entries.append(Entry(f"{rank:08d}", 0, label))
        return entries

    def open(self, path: str) -> Image.Image:
        sample = self._samples[int(path)]
        image = sample[0] if isinstance(sample, tuple | list) else sample
        if not isinstance(image, Image.Image):
            raise InputError(
                f"Sample {path} of the dataset is a {type(image).__name__}, expected a PIL image: "
                "open the torchvision dataset without a transform."
            )
        return image

    def read(self, path: str) -> bytes:
        buffer = io.BytesIO()
        self.open(path).save(buffer, "PNG")
        return buffer.getvalue()


class HeldSource:
    """Images whose files, or why they cannot be read, are in memory, by path."""

    def __init__(self, entries: Sequence[Entry], files: Mapping[str, bytes | Exception]) -> None:
        self.passed_over: list[Skipped] = []
        self._entries, self._files = list(entries), dict(files)

    def entries(self) -> list[Entry]:
        return self._entries

    def read(self, path: str) -> bytes:
        found = self._files[path]
        if isinstance(found, Exception):
            raise found
        return found

    def open(self, path: str) -> Image.Image:
        return open_picture(self.read(path))


def source_of(path: Path) -> Source:
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise DatasetError(f"Dataset '{path}' does not exist. Give a folder, a tar or a zip.")
    if path.is_file() and zipfile.is_zipfile(path):
        return ZipSource(path)
    if path.is_file() and tarfile.is_tarfile(path):
        return TarSource(path)
    raise DatasetError(f"Dataset '{path}' is neither a folder nor a tar nor a zip.")
