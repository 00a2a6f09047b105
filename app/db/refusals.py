"""What an error of the database means: a disk that takes no writes, or a change it never takes.

Both are told from a busy database, which is worth another try soon, and from a corrupt one.
"""

import sqlite3

from sqlalchemy import exc
from sqlalchemy.exc import DBAPIError

from app.errors import AppError, StorageFullError

_PRIMARY = 0xFF  # SQLite's extended codes carry the primary one in their lowest byte
_SQLITE = {
    sqlite3.SQLITE_FULL: "it is full",
    sqlite3.SQLITE_IOERR: "it reports an error",
    sqlite3.SQLITE_CANTOPEN: "no file can be made there",
    sqlite3.SQLITE_READONLY: "it is read-only",
}
_SQLSTATE = {"53100": "it is full", "58030": "it reports an error"}

# What is wrong with the change itself, not with the database's condition.
_SQLITE_NEVER = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)
_SQLSTATE_NEVER = ("22", "23", "44", "54", "P0")  # data, constraints, views, limits, triggers
_KINDS_NEVER = (exc.DataError, exc.IntegrityError, exc.ProgrammingError, exc.NotSupportedError)


def disk_refusal(error: DBAPIError) -> StorageFullError | None:
    """The error as what the disk did, if it was the disk."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY
    state = getattr(error.orig, "sqlstate", None) or ""
    why = _SQLITE.get(code) or _SQLSTATE.get(state)
    if why is None:
        return None
    return StorageFullError(
        f"The database's disk takes no writes: {why}. Nothing has changed. Free some room, or "
        "have the disk looked at, and retry."
    )


def never_taken(error: Exception) -> bool:
    """Whether a change that ended so would end so for ever, as a constraint is against it.

    What the database's condition brought about may pass: locks, its disk, its memory, a lost
    connection, a missing table or right.
    """
    if not isinstance(error, DBAPIError):
        may_pass = (AppError, OSError, MemoryError, exc.TimeoutError)
        return not isinstance(error, may_pass)
    if error.connection_invalidated:
        return False
    if state := getattr(error.orig, "sqlstate", None):
        return str(state).startswith(_SQLSTATE_NEVER)
    if code := getattr(error.orig, "sqlite_errorcode", None):
        return code & _PRIMARY in _SQLITE_NEVER
    return isinstance(error, _KINDS_NEVER)  # refused by the driver: no such value can be sent
