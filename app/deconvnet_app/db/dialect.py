"""What differs between the databases that may keep the jobs; everything else is one code."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

# How long a transaction waits for its turn to write, and then for a lock of somebody else's.
PATIENCE_S = 15


@dataclass(frozen=True)
class Dialect:
    """One database, ready to be connected to.

    Attributes:
        name: how messages call it; no secret is in it.
        remedy: what to do when it cannot be used.
        reader: connections whose transactions each see one state of the database.
        writer: a single connection, so that writers take turns. While one writes, nobody else
            does, in whatever process; a write sees all that was committed before it began.
        damage: what is broken of what is stored, if that can be told soon.
        trouble: what keeps the database from being used, though its connections do not show it.
    """

    name: str
    remedy: str
    reader: Engine
    writer: Engine
    damage: Callable[[Connection], str | None] = lambda _: None
    trouble: Callable[[], str | None] = lambda: None
