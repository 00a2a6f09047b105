"""The tables.

Times are UTC, in seconds since 1970, as floats: they are shown, never compared for leases.
"""

from typing import Any, ClassVar

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from deconvnet_app.db.column_types import Number, Object, Text, Texts, Whole

JsonObject = dict[str, Any]

CHANGED = "changed jobs"  # in a session's info: the ids of jobs that it has changed


class Base(DeclarativeBase):
    """Root of the tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        JsonObject: Object, list[str]: Texts, str: Text, int: Whole, float: Number
    }  # fmt: skip


class Image(Base):
    """An uploaded image, kept re-encoded as an artifact; `notes` are of its latest upload."""

    __tablename__ = "images"

    id: Mapped[str] = mapped_column(Text(40), primary_key=True)
    sha256: Mapped[str] = mapped_column(Text(64))
    width: Mapped[int]
    height: Mapped[int]
    name: Mapped[str]
    created_at: Mapped[float]
    notes: Mapped[list[str]] = mapped_column(default=list)


class Job(Base):
    """A batch job.

    `seq` orders jobs and is given once (`Counter`); `version` rises with every change; counts are
    kept in the same transaction as the items that they count. `done_before` is how many items had
    ended when the job was last queued. A job with `deleted_at` is gone for everyone; its rows and
    files go a little later.
    """

    __tablename__ = "jobs"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(Text(40), unique=True)
    state: Mapped[str] = mapped_column(Text(16), index=True)
    version: Mapped[int] = mapped_column(default=1)
    request: Mapped[JsonObject]
    fingerprints: Mapped[JsonObject]
    error: Mapped[JsonObject | None]
    total: Mapped[int]
    succeeded: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    updated_at: Mapped[float]
    finished_at: Mapped[float | None]
    done_before: Mapped[int] = mapped_column(default=0)
    deleted_at: Mapped[float | None]


class Event(Base):
    """One change of a job, told in the transaction that makes it; `version` is the job's after it.

    `kind` is "state" or "item".
    """

    __tablename__ = "events"

    job: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Text(16))
    data: Mapped[JsonObject]


class Item(Base):
    """One input of a job.

    `owner` and `attempt` are the fence: a result counts only if both are still as when the item
    was claimed. `deaths` counts the workers that died of it since it was last queued; `spent` the
    attempts that ended, in a result, an error or a death: no drain or restart of a server is one.
    """

    __tablename__ = "items"
    __table_args__ = (Index("items_by_state", "job", "state", "n"),)

    job: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(Text(16))
    custom_id: Mapped[str | None]
    image: Mapped[str | None] = mapped_column(Text(40))
    sha256: Mapped[str | None] = mapped_column(Text(64))
    dataset: Mapped[str | None]
    path: Mapped[str | None]
    owner: Mapped[str | None] = mapped_column(Text(40))
    attempt: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0)
    spent: Mapped[int] = mapped_column(default=0)
    result: Mapped[JsonObject | None]
    error: Mapped[JsonObject | None]
    finished_at: Mapped[float | None]


class Counter(Base):
    """The last number that was given of a kind, also when what had it is erased."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(Text(40), primary_key=True)
    value: Mapped[int]


class IdempotencyKey(Base):
    """A client's key for a submission, and its first answer: it outlives a job that is deleted."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("keys_by_age", "created_at"),)

    key: Mapped[str] = mapped_column(Text(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(Text(64))
    job: Mapped[str] = mapped_column(Text(40))
    created_at: Mapped[float]
    answer: Mapped[JsonObject | None]
