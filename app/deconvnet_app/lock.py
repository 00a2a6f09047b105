"""One server per data directory."""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deconvnet_app.errors import DataDirBusyError, DataDirError

log = logging.getLogger(__name__)

LOCK = "server.lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def owner(data_dir: Path) -> str | None:
    """What the server that has the data directory said of itself; None: there is none."""
    try:
        handle = os.open(data_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _said(handle)
    finally:
        os.close(handle)
    return None


def _said(handle: int) -> str:
    return os.pread(handle, 400, 0).decode(errors="replace").strip() or "another server"


@contextmanager
def sole_owner(data_dir: Path, who: str, database: Path | None = None) -> Iterator[None]:
    """Own the data directory; the lock goes with the process, however that ends.

    The folder itself is locked too: the file may be deleted by somebody who tidies up. So is the
    folder that a link in place of the database leads to: it may be another server's.

    Args:
        who: what another server is told, such as this one's address.
        database: a file of the data directory.

    Raises:
        DataDirBusyError: another server has it; its `who` is in the message.
        DataDirError: it cannot be made or written to.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        folders = [os.open(one, _FOLDER) for one in _folders(data_dir, database)]
    except OSError as error:
        raise _unusable(data_dir, error) from error
    try:
        _take(handle, folders, data_dir, who)
        yield
    finally:
        for one in (*folders, handle):
            os.close(one)


def _folders(data_dir: Path, database: Path | None) -> list[Path]:
    if database is None or not database.exists():
        return [data_dir]
    return list(dict.fromkeys([data_dir.resolve(), database.resolve().parent]))


def _take(handle: int, folders: Sequence[int], data_dir: Path, who: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for one in folders:
            _lock_folder(one)
    except OSError as error:
        raise DataDirBusyError(
            f"Data directory '{data_dir}' is in use by {_said(handle)}. Stop that one, or "
            "choose another --data-dir."
        ) from error
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{who} (process {os.getpid()})\n".encode(), 0)
    except OSError as error:
        raise _unusable(data_dir, error) from error


def _lock_folder(folder: int) -> None:
    """Raises BlockingIOError if somebody has it; some network file systems lock no folders."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        log.warning("The data directory is locked by its file alone: %s", error.strerror)


def _unusable(data_dir: Path, error: OSError) -> DataDirError:
    return DataDirError(
        f"Data directory '{data_dir}' cannot be used: {error.strerror}. See to that, or choose "
        "another --data-dir."
    )
