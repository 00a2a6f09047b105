"""The database: opening, migrating, transactions."""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.orm import Session

from deconvnet_app.db import postgres, sqlite
from deconvnet_app.db.errors import damage, disk_refusal
from deconvnet_app.db.models import CHANGED, Base
from deconvnet_app.errors import DatabaseError_

log = logging.getLogger(__name__)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what is damaged from what is busy."""
    try:
        yield
    except Exception as error:
        if found := damage(error):
            log.error("The database is damaged: %s", error)
            raise found from error
        raise


class Database:
    """Where jobs are kept: one writer at a time, any number of readers.

    Args:
        where: SQLite's file, or the URL of a PostgreSQL database.
        changed: is told the ids of the jobs that a transaction has changed, once it is committed,
            and of those that one may have changed whose end is not known.
        who: this server, as another one is told that wants the same database.

    Attributes:
        tenures: how often the writing connection was made; before each, another server may have
            had the database.

    Raises:
        DatabaseError_: what the database needs is not installed.
    """

    def __init__(
        self,
        where: Path | str,
        changed: Callable[[Collection[str]], None] = lambda _: None,
        who: str = "deconvnet",
    ) -> None:
        self._dialect = (
            sqlite.dialect(where) if isinstance(where, Path) else postgres.dialect(where, who)
        )
        self._changed = changed
        self.tenures = 0
        event.listen(self._dialect.writer, "connect", self._begin_tenure)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database.

        Raises:
            DamagedError: what is asked for cannot be read.
        """
        with _told(), Session(self._dialect.reader) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that alone may write; committed at the end, undone by an exception.

        An exception of the database's from the end itself leaves open whether it was committed.

        Raises:
            StorageFullError: the disk takes no writes.
            DamagedError: what is asked for cannot be read.
        """
        with _told(), Session(self._dialect.writer, expire_on_commit=False) as session:
            try:
                with session.begin():
                    yield session
            except DBAPIError as error:
                raise disk_refusal(error) or error from error.orig
            finally:
                if changed := session.info.get(CHANGED):
                    self._changed(changed)

    @property
    def trouble(self) -> str | None:
        """What keeps the database from being used, though it may answer; None: nothing does."""
        return self._dialect.trouble()

    def migrate(self, *, used: bool = False) -> None:
        """Bring the tables up to date; a PostgreSQL database is this server's from here on.

        Args:
            used: what is stored beside it shows that the database has been used, so it has tables.

        Raises:
            DatabaseError_: the database cannot be reached, is corrupt, is another server's, or was
                made by a newer program.
            StorageFullError: the disk takes no writes.
        """
        if found := self.trouble:
            raise self._unusable(found)
        config = Config()
        folder = Path(__file__).parent / "migrations"
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        try:
            with self._dialect.writer.connect() as connection:
                self._refuse_damaged(connection)
                self._refuse_other_schemas(connection, ScriptDirectory.from_config(config), used)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
                self._refuse_incomplete(connection)
        except DatabaseError as error:
            if refusal := disk_refusal(error):
                raise refusal from error
            reason = " ".join(str(error.orig).split()).rstrip(".?")
            raise self._unusable(reason) from error

    def _unusable(self, reason: str) -> DatabaseError_:
        name, remedy = self._dialect.name, self._dialect.remedy
        return DatabaseError_(f"The database {name} cannot be used: {reason}. {remedy}")

    def _corrupt(self, reason: str) -> DatabaseError_:
        name, remedy = self._dialect.name, self._dialect.remedy
        return DatabaseError_(f"The database {name} is corrupt: {reason}. {remedy}")

    def close(self) -> None:
        """Close all connections."""
        self._dialect.reader.dispose()
        self._dialect.writer.dispose()

    def _begin_tenure(self, *_: object) -> None:
        self.tenures += 1

    def _refuse_damaged(self, connection: Connection) -> None:
        if found := self._dialect.damage(connection):
            raise self._corrupt(found)

    def _refuse_incomplete(self, connection: Connection) -> None:
        there = inspect(connection)
        for table in Base.metadata.sorted_tables:
            if not there.has_table(table.name):
                raise self._corrupt(f"it has no table '{table.name}'")
            columns = {column["name"] for column in there.get_columns(table.name)}
            if lacking := [one.name for one in table.columns if one.name not in columns]:
                raise self._corrupt(f"its table '{table.name}' has no column '{lacking[0]}'")

    def _refuse_other_schemas(
        self, connection: Connection, scripts: ScriptDirectory, used: bool
    ) -> None:
        known = {revision.revision for revision in scripts.walk_revisions()}
        current = MigrationContext.configure(connection).get_current_heads()
        if used and not current:
            raise DatabaseError_(
                f"The database {self._dialect.name} is empty, but files of its jobs and uploads "
                f"are stored beside it. {self._dialect.remedy}"
            )
        if not all(current):
            raise self._corrupt("it does not say which schema it has")
        if newer := sorted(set(current) - known):
            raise DatabaseError_(
                f"The database {self._dialect.name} was made by a newer version (schema "
                f"{newer[0]}). Upgrade deconvnet, or start with another data directory or database."
            )
