"""Takes away what is past its time, and the files that nothing names any more.

A job that is deleted, or ended longer ago than the retention, is gone for everyone at once. Its
rows and files go `GRACE_S` later, in an order that a crash at any moment only repeats: first the
files that no other job and no upload names, then the rows. The grace is for work under way that has
found such a file and is about to name it: finding a file renews its time, and the renewed stay.
"""

import logging
import threading
import time
from collections.abc import Collection

from sqlalchemy.exc import SQLAlchemyError

from deconvnet_app.artifacts import ArtifactStore
from deconvnet_app.compute.cache import ResultCache
from deconvnet_app.db import retention as store
from deconvnet_app.db.engine import Database
from deconvnet_app.errors import DamagedError, StorageFullError

log = logging.getLogger(__name__)

GRACE_S = 120.0
ROUND_S = 30.0
OLD_FILES_S = 86_400.0


class Janitor:
    """One thread of the server.

    Args:
        retention_s: seconds that finished jobs, uploads and pages' results are kept.
    """

    def __init__(
        self, db: Database, artifacts: ArtifactStore, cache: ResultCache, retention_s: float
    ) -> None:
        self._db = db
        self._artifacts = artifacts
        self._cache = cache
        self._retention_s = retention_s
        self._stopping = threading.Event()
        self._offset = time.time() - time.monotonic()
        self._old_files_at = 0.0
        self._thread = threading.Thread(target=self._loop, name="janitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End between two steps."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def trouble(self) -> str | None:
        """Why nothing is tidied up; None: it is."""
        return None if self._thread.is_alive() else "it has ended"

    def _loop(self) -> None:
        while not self._stopping.wait(ROUND_S):
            try:
                self.tidy(self.now(), old_files=time.monotonic() >= self._old_files_at)
            except (SQLAlchemyError, OSError, StorageFullError, DamagedError) as error:
                log.warning("Nothing could be tidied up: %s; trying again", error)
            except Exception:
                log.exception("Tidying up crashed; trying again")

    def now(self) -> float:
        """The time, but never later than as many seconds after any earlier look as have passed.

        A clock that jumps ahead ends nothing before its time, also where that only puts right a
        clock that was behind: what ended meanwhile has kept the wrong time.
        """
        passed = time.monotonic()
        self._offset = min(self._offset, time.time() - passed)
        return passed + self._offset

    def tidy(self, now: float, *, old_files: bool) -> int:
        """Do it all once; how many files were removed.

        Args:
            now: the time, in seconds since 1970.
            old_files: look, too, for uploads and pages' results that are past the retention.
        """
        past = now - self._retention_s
        with self._db.write() as session:
            expired = store.expire(session, past, now)
        with self._db.read() as session:
            jobs = store.removed(session, now - GRACE_S)
        names, keys = self._left_by(jobs)
        if old_files:
            self._old_files_at = time.monotonic() + OLD_FILES_S
            keys.update(self._cache.stale(past))
            names.update(name for name, _, put_at in self._artifacts.files() if put_at < past)
        if not names and not keys and not jobs:
            return 0
        names -= self._named_by_others(names, jobs, old_files)
        self._cache.forget(keys)
        removed = self._artifacts.discard(names, now - GRACE_S)
        for job in jobs:
            if self._stopping.is_set():
                break
            with self._db.write() as session:
                store.erase(session, job)
        log.info("%d jobs expired, %d erased, %d files removed", expired, len(jobs), removed)
        return removed

    def _left_by(self, jobs: Collection[int]) -> tuple[set[str], set[str]]:
        """The files that these jobs name, and the keys of their results."""
        names: set[str] = set()
        keys: set[str] = set()
        for result in store.results(self._db, jobs, of_them=True):
            names.update(result["pictures"].values(), result["arrays"].values())
            names.update(self._cache.names(result["key"]))  # its outputs may not be all of them
            keys.add(result["key"])
        return names, keys

    def _named_by_others(self, names: set[str], jobs: Collection[int], old_files: bool) -> set[str]:
        """Which of the files other jobs or uploads name; uploads past their time are dropped."""
        named: set[str] = set()
        for result in store.results(self._db, jobs, of_them=False):
            named.update(names.intersection(result["pictures"].values()))
            named.update(names.intersection(result["arrays"].values()))
        unused = []
        for image, sha256, used in store.images(self._db):
            if sha256 in names and old_files and not used:
                unused.append(image)
            elif sha256 in names:
                named.add(sha256)
        if unused:
            with self._db.write() as session:
                store.forget_images(session, unused)
        return named
