"""Files named by the SHA-256 of their content: written once, whole or not at all, never changed."""

import contextlib
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.errors import ArtifactMissingError, StorageFullError

_NAME = re.compile(r"[0-9a-f]{64}\Z")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256(data: bytes) -> str:
    """The content's name."""
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash at any moment leaves the old file or the new one.

    Raises:
        StorageFullError: there is no room; nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if error.errno in _FULL:
            raise StorageFullError("The disk is full. Free some room and retry.") from error
        raise


class ArtifactStore:
    """A folder of content-addressed files.

    Args:
        root: the folder; made when first written to.
        quota: bytes that all files together may take; None: no limit.
    """

    def __init__(self, root: Path, quota: int | None = None) -> None:
        self.root = root
        self.quota = quota
        self._used: int | None = None

    def path(self, name: str) -> Path:
        """Where the file is.

        Raises:
            ArtifactMissingError: there is none of that name, or it is not a name.
        """
        path = self._place(name)
        if not path.is_file():
            raise ArtifactMissingError(f"Artifact '{name[:12]}…' is not stored (any more).")
        return path

    def _place(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ArtifactMissingError(f"'{name[:80]}' is not the name of an artifact.")
        return self.root / name[:2] / name[2:]

    def has(self, name: str) -> bool:
        """Whether a file of that name is stored."""
        return self._place(name).is_file()

    def read(self, name: str) -> bytes:
        """The file's content; raises ArtifactMissingError."""
        return self.path(name).read_bytes()

    def put(self, data: bytes) -> str:
        """Store `data`, once; its name comes back.

        Raises:
            StorageFullError: the disk or the quota is full.
        """
        name = sha256(data)
        path = self._place(name)
        if not path.is_file():
            self.require_room(len(data))
            write_whole(path, data)
            if self._used is not None:
                self._used += len(data)
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
                "Raise DECONVNET_ARTIFACT_BYTES."
            )

    def used(self) -> int:
        """Bytes stored, counted once from the disk and kept up to date by this object's writes."""
        if self._used is None:
            self._used = sum(path.stat().st_size for path in self._files())
        return self._used

    def recount(self) -> None:
        """Forget the count: other processes have written too."""
        self._used = None

    def clean(self) -> int:
        """Remove temporary files that a crash has left; how many there were."""
        orphans = list(self.root.glob("*/.tmp-*"))
        for path in orphans:
            with contextlib.suppress(OSError):
                path.unlink()
        return len(orphans)

    def _files(self) -> Iterator[Path]:
        return (path for path in self.root.glob("??/*") if not path.name.startswith("."))
