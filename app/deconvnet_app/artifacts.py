"""Files named by the SHA-256 of their content: written once, whole or not at all, never changed."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deconvnet_app.errors import ArtifactMissingError, StorageFullError

_NAME = re.compile(r"[0-9a-f]{64}\Z")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BROKEN = (
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP
)  # fmt: skip


def sha256(data: bytes) -> str:
    """The content's name."""
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash at any moment leaves the old file or the new one.

    Raises:
        StorageFullError: there is no room, or the disk takes no writes; the old file is whole.
    """
    temporary = ""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(path.parent.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        raise disk_refusal(error) or error from error.__cause__


def disk_refusal(error: OSError) -> StorageFullError | None:
    """The error as what the disk did, if it was the disk that takes no writes."""
    found = None
    if error.errno in _FULL:
        found = StorageFullError("The disk is full. Free some room and retry.")
    elif error.errno in _BROKEN:
        detail = f"The disk takes no writes ({error.strerror}). Have it looked at and retry."
        found = StorageFullError(detail)
    if found:
        found.__cause__ = error
    return found


def _is_whole(path: Path) -> bool:
    """Whether it is there: a file, no link that leads elsewhere, and not emptied by a power cut."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(info.st_mode) and info.st_size > 0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(root: Path) -> int:
    """Remove what `write_whole` had not finished below `root` when its process was killed."""
    orphans = list(root.glob("*/.tmp-*"))
    for path in orphans:
        with contextlib.suppress(OSError):
            path.unlink()
    return len(orphans)


class ArtifactStore:
    """A folder of content-addressed files, written by several processes.

    A file's time of change is when it was last put or held: `discard` leaves what somebody has just
    found there and is about to refer to.

    Args:
        root: the folder; made when first written to.
        quota: bytes that all files together may take; None: no limit.

    Attributes:
        written: bytes that this object has stored, whatever was removed since.
    """

    def __init__(self, root: Path, quota: int | None = None) -> None:
        self.root = root
        self.quota = quota
        self.written = 0
        self._used: int | None = None
        self._counting = threading.Lock()

    def path(self, name: str) -> Path:
        """Where the file is.

        Raises:
            ArtifactMissingError: there is none of that name, or it is not a name.
        """
        path = self._place(name)
        if not _is_whole(path):
            raise ArtifactMissingError(f"Artifact '{name[:12]}…' is not stored (any more).")
        return path

    def _place(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ArtifactMissingError(f"'{name[:80]}' is not the name of an artifact.")
        return self.root / name[:2] / name[2:]

    def hold(self, *names: str) -> bool:
        """Whether all these files are stored; if so, `discard` leaves them for a while."""
        if not names:
            return True  # also before there is a folder, and with it a lock
        try:
            with self._locked(fcntl.LOCK_SH):
                for name in names:
                    os.utime(self._place(name), follow_symlinks=False)
                return all(_is_whole(self._place(name)) for name in names)
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes:
        """The file's content; raises ArtifactMissingError."""
        return self.path(name).read_bytes()

    def put(self, data: bytes) -> str:
        """Store `data`, once; its name comes back.

        Raises:
            StorageFullError: the disk or the quota is full.
        """
        name = sha256(data)
        if not self.hold(name):
            self.require_room(len(data))
            write_whole(self._place(name), data)
            with self._counting:
                self.written += len(data)
            self.account(len(data))
        return name

    def put_all(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Store several files side by side, as waiting for the disk is most of the work."""
        if not files:
            return {}
        with ThreadPoolExecutor(min(8, len(files))) as pool:
            return dict(zip(files, pool.map(self.put, files.values()), strict=True))

    def require_room(self, size: int) -> None:
        """Raise StorageFullError unless `size` more bytes fit the quota."""
        if self.quota is not None and self.used() + size > self.quota:
            raise StorageFullError(
                f"The quota of {self.quota} bytes for stored files is used up. "
                "Delete jobs that are done with, or raise DECONVNET_ARTIFACT_BYTES."
            )

    def used(self) -> int:
        """Bytes stored, counted once from the disk and kept up to date from then on."""
        if self._used is None:
            self._used = sum(size for _, size, _ in self.files())
        return self._used

    def account(self, size: int) -> None:
        """Count bytes that were stored (or, below zero, removed), here or in another process."""
        with self._counting:
            if self._used is not None:
                self._used += size

    def files(self) -> Iterator[tuple[str, int, float]]:
        """Every stored file: its name, its bytes, and when it was last put or held."""
        for path in self.root.glob("??/*"):
            if not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    info = path.stat()
                    yield path.parent.name + path.name, info.st_size, info.st_mtime

    def discard(self, names: Iterable[str], before: float) -> int:
        """Remove those of the files that nobody has put or held since `before`; how many."""
        removed = 0
        for name in names:
            path = self._place(name)
            with contextlib.suppress(FileNotFoundError), self._locked(fcntl.LOCK_EX):
                info = path.stat()
                if info.st_mtime < before:
                    path.unlink()
                    self.account(-info.st_size)
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Finding a file and marking it as found is one step for `discard`, and the reverse."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)
