"""SQLite in one file. Writers begin IMMEDIATE, which is its lock of writers."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event

from deconvnet_app.db.dialect import PATIENCE_S, Dialect

# Older versions can corrupt a write-ahead log that several connections use.
_SAFE_WAL = ((3, 51, 3),)
_BACKPORTS = ((3, 50, 7), (3, 44, 6))


def journal_mode(version: tuple[int, ...]) -> str:
    """WAL where this SQLite's is sound, else the rollback journal."""
    fixed = version >= _SAFE_WAL[0] or any(
        version[:2] == backport[:2] and version >= backport for backport in _BACKPORTS
    )
    return "WAL" if fixed else "DELETE"


def dialect(path: Path) -> Dialect:
    """SQLite in that file, whose folder is there once it is connected to."""
    url = f"sqlite:///{path}"
    arguments = {"timeout": PATIENCE_S, "check_same_thread": False}
    reader = create_engine(url, connect_args=arguments, pool_size=8, max_overflow=32)
    writer = create_engine(
        url, connect_args=arguments, pool_size=1, max_overflow=0, pool_timeout=PATIENCE_S
    )
    for engine, begin in ((reader, _begin), (writer, _begin_immediate)):
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", begin)
    file = _File(path)
    event.listen(writer, "connect", file.opened)
    remedy = "Restore a backup, or move the file away to start empty."
    return Dialect(path.name, remedy, reader, writer, _damage, file.trouble)


class _File:
    """The database's file, which an open connection keeps when another takes its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: os.stat_result | None = None

    def opened(self, *_: Any) -> None:
        """The writing connection is there, and with it the file."""
        self._opened = self._path.stat()

    def trouble(self) -> str | None:
        """Whether it is one that may be opened, and once it is, still in its place."""
        if self._opened is None:
            return self._unfit()
        with suppress(OSError):
            if os.path.samestat(self._opened, self._path.stat()):
                return None
        return "its file was moved, deleted or replaced; put it back, or start the server again"

    def _unfit(self) -> str | None:
        if not os.path.lexists(self._path):
            return None  # it is made
        if not self._path.is_file():
            return "it is no file, nor a link to one"
        if self._path.stat().st_nlink > 1:
            return "it has a second name (a hard link), by which another server may write to it"
        return None


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by the listeners alone
    for pragma in (
        f"journal_mode={journal_mode(sqlite3.sqlite_version_info)}",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _damage(connection: Connection) -> str | None:
    (found,) = connection.exec_driver_sql("PRAGMA quick_check(1)").one()
    return None if found == "ok" else " ".join(str(found).split())
