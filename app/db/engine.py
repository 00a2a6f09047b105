"""The database: opening, migrating, transactions."""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.orm import Session

from app.db.jobs import CHANGED
from app.db.refusals import disk_refusal
from app.errors import DatabaseError_

# Older versions can corrupt a write-ahead log that several connections use.
_SAFE_WAL = ((3, 51, 3),)
_BACKPORTS = ((3, 50, 7), (3, 44, 6))


def journal_mode(version: tuple[int, ...]) -> str:
    """WAL where this SQLite's is sound, else the rollback journal."""
    fixed = version >= _SAFE_WAL[0] or any(
        version[:2] == backport[:2] and version >= backport for backport in _BACKPORTS
    )
    return "WAL" if fixed else "DELETE"


class Database:
    """SQLite in one file; one writer at a time, any number of readers.

    Args:
        path: the file; its folder is made.
        changed: is told the ids of the jobs that a transaction has changed, once it is committed.
    """

    def __init__(
        self, path: Path, changed: Callable[[Collection[str]], None] = lambda _: None
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._changed = changed
        self._writing = threading.Lock()
        self.engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": 30, "check_same_thread": False},
            pool_size=8,
            max_overflow=32,
        )
        event.listen(self.engine, "connect", _prepare)
        event.listen(self.engine, "begin", _begin)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that alone may write; committed at the end, undone by an exception.

        Raises:
            StorageFullError: the disk takes no writes.
        """
        engine = self.engine.execution_options(immediate=True)
        with self._writing, Session(engine, expire_on_commit=False) as session:
            try:
                with session.begin():
                    yield session
            except DBAPIError as error:
                raise disk_refusal(error) or error from error.orig
            changed = session.info.get(CHANGED)
        if changed:
            self._changed(changed)

    def migrate(self) -> None:
        """Bring the tables up to date.

        Raises:
            DatabaseError_: the file is corrupt or was made by a newer program.
            StorageFullError: the disk takes no writes.
        """
        config = Config()
        folder = Path(__file__).parent / "migrations"
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        try:
            with self.engine.connect() as connection:
                _refuse_corrupt(connection, self.path)
                _refuse_newer(connection, ScriptDirectory.from_config(config), self.path)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except DatabaseError as error:
            if refusal := disk_refusal(error):
                raise refusal from error
            raise DatabaseError_(
                f"The database {self.path.name} cannot be used: {error.orig}. Restore a backup, or "
                "move the file away to start empty."
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin alone
    for pragma in (
        f"journal_mode={journal_mode(sqlite3.sqlite_version_info)}",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _refuse_corrupt(connection: Connection, path: Path) -> None:
    (found,) = connection.exec_driver_sql("PRAGMA quick_check(1)").one()
    if found != "ok":
        raise DatabaseError_(
            f"The database {path.name} is corrupt: {found}. Restore a backup, or move the file "
            "away to start empty."
        )


def _refuse_newer(connection: Connection, scripts: ScriptDirectory, path: Path) -> None:
    known = {revision.revision for revision in scripts.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise DatabaseError_(
            f"The database {path.name} was made by a newer version (schema {current}). Upgrade "
            "deconvnet, or start with another data directory."
        )
