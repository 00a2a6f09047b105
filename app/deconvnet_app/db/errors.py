"""What an error of the database means: a disk that takes no writes, rows that are damaged, or a
change it never takes.

All are told from a busy database, which is worth another try soon.
"""

import sqlite3
from json import JSONDecodeError

from pydantic import ValidationError
from sqlalchemy import exc
from sqlalchemy.exc import DBAPIError

from deconvnet_app.db.column_types import UnreadableError
from deconvnet_app.errors import AppError, DamagedError, StorageFullError

_PRIMARY = 0xFF  # SQLite's extended codes carry the primary one in their lowest byte
_SQLITE = {
    sqlite3.SQLITE_FULL: "it is full",
    sqlite3.SQLITE_IOERR: "it reports an error",
    sqlite3.SQLITE_CANTOPEN: "no file can be made there",
    sqlite3.SQLITE_READONLY: "it is read-only",
}
_SQLSTATE = {"53100": "it is full", "58030": "it reports an error"}

# Pages, tables or texts that are not as they were written.
_SQLITE_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_SQLSTATE_DAMAGED = ("XX001", "XX002", "42P01", "42703")
_UNREADABLE = "Could not decode to UTF-8"  # said by Python's module, which gives it no code

# What is wrong with the change itself, not with the database's condition.
_SQLITE_NEVER = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)
_SQLSTATE_NEVER = ("22", "23", "44", "54", "P0")  # data, constraints, views, limits, triggers
_KINDS_NEVER = (exc.DataError, exc.IntegrityError, exc.ProgrammingError, exc.NotSupportedError)


def disk_refusal(error: DBAPIError) -> StorageFullError | None:
    """The error as what the disk did, if it was the disk."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY
    state = getattr(error.orig, "sqlstate", None) or ""
    why = _SQLITE.get(code) or _SQLSTATE.get(state)
    if getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
        return StorageFullError(
            "The database's file was moved or deleted while the server runs. Nothing has changed. "
            "Put it back, or start the server again, and retry."
        )
    if why is None:
        return None
    return StorageFullError(
        f"The database's disk takes no writes: {why}. Nothing has changed. Free some room, or "
        "have the disk looked at, and retry."
    )


def damage(error: Exception) -> DamagedError | None:
    """The error as rows that cannot be read, if that is what it is."""
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY
        state = getattr(error.orig, "sqlstate", None)
        damaged = code in _SQLITE_DAMAGED or state in _SQLSTATE_DAMAGED or _unreadable(error)
    else:
        damaged = isinstance(error, UnreadableError | JSONDecodeError | ValidationError)
    if not damaged:
        return None
    return DamagedError(
        "What is stored of this cannot be read: the database is damaged. Whoever runs this server "
        "finds more in its log, and should restore a backup."
    )


def _unreadable(error: DBAPIError) -> bool:
    return str(error.orig).startswith(_UNREADABLE)


def never_taken(error: Exception) -> bool:
    """Whether a change that ended so would end so for ever, as a constraint is against it.

    What the database's condition brought about may pass: locks, its disk, its memory, a lost
    connection, a missing table or right.
    """
    if isinstance(error, DamagedError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if not isinstance(error, DBAPIError):
        may_pass = (AppError, OSError, MemoryError, exc.TimeoutError)
        return not isinstance(error, may_pass)
    if error.connection_invalidated:
        return False
    if _unreadable(error):
        return True
    if state := getattr(error.orig, "sqlstate", None):
        return str(state).startswith(_SQLSTATE_NEVER)
    if code := getattr(error.orig, "sqlite_errorcode", None):
        return code & _PRIMARY in _SQLITE_NEVER
    return isinstance(error, _KINDS_NEVER)  # refused by the driver: no such value can be sent
