"""Which errors of a database mean that the disk takes no writes.

They are told from a busy database, which is worth another try soon, and from a corrupt one.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError

from app.errors import StorageFullError

_PRIMARY = 0xFF  # SQLite's extended codes carry the primary one in their lowest byte
_SQLITE = {
    sqlite3.SQLITE_FULL: "it is full",
    sqlite3.SQLITE_IOERR: "it reports an error",
    sqlite3.SQLITE_CANTOPEN: "no file can be made there",
    sqlite3.SQLITE_READONLY: "it is read-only",
}
_SQLSTATE = {"53100": "it is full", "58030": "it reports an error"}


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
