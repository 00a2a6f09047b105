"""PostgreSQL by URL. One server has the database, and one of its connections writes.

The writing connection takes an advisory lock of its session when it is made. Whoever holds that
lock is the server of this database, and only the session that holds it ever writes: a connection
that is lost has lost its lock together with its transaction, and the next one has to win the lock
again before it can write. So a server that another has replaced cannot change anything, whatever it
still believes, and writers need no further lock: `seq` and versions are committed in their order.
"""

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIModule
from sqlalchemy.exc import ArgumentError

from deconvnet_app.db.dialect import PATIENCE_S, Dialect
from deconvnet_app.errors import DatabaseError_

if TYPE_CHECKING:
    from psycopg import Connection

LOCK = 0x6465636F6E76  # "deconv"; advisory locks are each database's own
STATEMENT_S = 60
LEAVING_S = 2  # a server that has just ended may hold the lock for a moment yet

# A peer that is gone without a word is noticed within a minute, from either end.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_ONE_STATE = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_HOLDER = """
    SELECT coalesce(nullif(application_name, ''), 'process ' || pid) FROM pg_locks
    JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid::bigint << 32 | objid::bigint = %s
"""


def dialect(given: str, who: str) -> Dialect:
    """The database at a URL.

    Args:
        given: the URL.
        who: what a second server on this database is told, such as this one's address.

    Raises:
        DatabaseError_: psycopg is not installed, or this is no URL.
    """
    url = _parsed(given)
    try:
        reader = _engine(url, who, pool_size=8, max_overflow=32)
        writer = _engine(url, who, pool_size=1, max_overflow=0)
    except ImportError as error:
        raise DatabaseError_(
            "A database of PostgreSQL needs psycopg, which cannot be imported here "
            f"({error}). Install it: pip install 'deconvnet[postgres]'."
        ) from None
    event.listen(reader, "connect", partial(_prepare, _ONE_STATE))
    event.listen(writer, "connect", partial(_own, writer.dialect.loaded_dbapi))
    name = f"'{url.database or url.username}' at {url.host or 'this machine'}"
    remedy = (
        "PostgreSQL must run, let this user in, and serve no other server with this database: see "
        "to that, or give another --database."
    )
    return Dialect(name, remedy, reader, writer)


def _parsed(given: str) -> URL:
    try:
        return make_url(given).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise DatabaseError_(  # whose message and cause repeat nothing of it: there is a password
            "The database's URL cannot be read; expected postgresql+psycopg://USER@HOST:PORT/NAME, "
            "with %40 and the like for signs in its parts."
        ) from None


def _engine(url: URL, who: str, pool_size: int, max_overflow: int) -> Engine:
    return create_engine(
        url,
        connect_args={
            "application_name": f"{who} (process {os.getpid()} of {socket.gethostname()})",
            "connect_timeout": 10,
            **_KEEPALIVES,
        },
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=PATIENCE_S,
        pool_pre_ping=True,
    )


def _prepare(last: str, connection: "Connection[Any]", _record: Any) -> None:
    connection.autocommit = True
    limits = {f"tcp_{name}": value for name, value in _KEEPALIVES.items()}
    limits |= {"lock_timeout": PATIENCE_S * 1000, "statement_timeout": STATEMENT_S * 1000}
    for name, value in limits.items():
        connection.execute(f"SET {name} = {value:.0f}".encode())
    connection.execute(last.encode())
    connection.autocommit = False


def _own(dbapi: DBAPIModule, connection: "Connection[Any]", _record: Any) -> None:
    """Take the database for this server, for as long as this connection lives."""
    try:
        connection.autocommit = True
        _require_utf8(connection)
        connection.execute(f"SET lock_timeout = {LEAVING_S * 1000}".encode())
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        except dbapi.OperationalError as error:
            raise type(error)(_taken(connection) or str(error)) from error
        _prepare("SELECT 1", connection, _record)
    except BaseException:
        connection.close()
        raise


def _require_utf8(connection: "Connection[Any]") -> None:
    found = connection.execute("SHOW server_encoding").fetchone()
    assert found is not None
    if found[0] != "UTF8":
        raise DatabaseError_(
            f"The database '{connection.info.dbname}' is encoded as {found[0]}, which has no room "
            "for every file's name. Make it anew: createdb -E UTF8 -T template0 NAME."
        )


def _taken(connection: "Connection[Any]") -> str | None:
    """Who has the database; None: nobody any more."""
    found = connection.execute(_HOLDER, (LOCK,)).fetchone()
    return f"it is in use by {found[0]}" if found else None
