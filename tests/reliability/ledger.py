"""What a data directory says once its server has gone: what was committed, and what is damaged."""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Place = tuple[str, int]  # job and item


@dataclass
class Ledger:
    """A data directory's contents.

    Attributes:
        results: item → the names of its pictures and arrays, in JSON, of those that succeeded.
        codes: item → the code of its error, of those that failed.
        jobs: every job's state.
        twice: items of which more than one success was told.
        lost: files that a result names and that are not there.
        torn: files whose content is not what their name says.
        unfinished: temporary files.
        integrity: what SQLite's own check found.
    """

    results: dict[Place, str] = field(default_factory=dict)
    codes: dict[Place, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    twice: int = 0
    lost: int = 0
    torn: int = 0
    unfinished: int = 0
    miscounted: int = 0
    integrity: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        damaged = self.twice + self.lost + self.torn + self.miscounted
        return damaged == 0 and self.integrity == "ok"


def audit(data_dir: Path) -> Ledger:
    """Read it all."""
    found = Ledger()
    names: set[str] = set()
    with closing(sqlite3.connect(data_dir / "deconvnet.sqlite")) as connection:
        found.integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        ids = dict(connection.execute("SELECT seq, id FROM jobs"))
        found.jobs = dict(connection.execute("SELECT id, state FROM jobs"))
        for job, n, state, result, error in _items(connection):
            if state == "succeeded":
                kept = {kind: result[kind] for kind in ("pictures", "arrays")}
                found.results[ids[job], n] = json.dumps(kept, sort_keys=True)
                names.update(*(one.values() for one in kept.values()))
            elif state == "failed":
                found.codes[ids[job], n] = error["code"]
        found.twice = _told_twice(connection)
        found.miscounted = _miscounted(connection)
    artifacts = data_dir / "artifacts"
    found.lost = sum(not (artifacts / name[:2] / name[2:]).is_file() for name in names)
    for path in artifacts.glob("??/*"):
        if not path.name.startswith("."):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.torn += content != path.parent.name + path.name
    found.unfinished = sum(1 for _ in data_dir.rglob(".tmp-*"))
    return found


def _items(connection: sqlite3.Connection) -> Iterator[tuple[int, int, str, Any, Any]]:
    for job, n, state, result, error in connection.execute(
        "SELECT job, n, state, result, error FROM items"
    ):
        yield job, n, state, json.loads(result or "null"), json.loads(error or "null")


def _told_twice(connection: sqlite3.Connection) -> int:
    told: Counter[tuple[int, int]] = Counter()
    for job, text in connection.execute("SELECT job, data FROM events WHERE kind = 'item'"):
        data = json.loads(text)
        told[job, data["n"]] += data["state"] == "succeeded"
    return sum(count > 1 for count in told.values())


def _miscounted(connection: sqlite3.Connection) -> int:
    """Jobs whose counts are not those of their items, or whose events have a gap."""
    wrong = 0
    for seq, version, *counts in connection.execute(
        "SELECT seq, version, total, succeeded, failed, skipped FROM jobs"
    ):
        states = Counter(one for (one,) in connection.execute(
            "SELECT state FROM items WHERE job = ?", (seq,)
        ))  # fmt: skip
        events = connection.execute("SELECT count(*) FROM events WHERE job = ?", (seq,)).fetchone()
        real = [states.total(), *(states[one] for one in ("succeeded", "failed", "skipped"))]
        wrong += counts != real or events[0] != version
    return wrong
