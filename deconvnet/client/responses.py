"""What the server answers, as frozen dataclasses. Times are UTC, in seconds since 1970."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

ENDS = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True)
class Answer:
    """Root of the answers."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From JSON; what a newer server says besides is left out."""
        return cls(**{one.name: data[one.name] for one in fields(cls) if one.name in data})


@dataclass(frozen=True)
class Fault(Answer):
    """One thing wrong with a request: a JSON pointer to it, a code, and why."""

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True)
class Image(Answer):
    """An uploaded image as it is kept; `notes` say what its conversion ignored."""

    id: str
    sha256: str
    width: int
    height: int
    name: str
    created_at: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts(Answer):
    """How many items a job has, and how they ended."""

    total: int
    succeeded: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class Job(Answer):
    """A job.

    Attributes:
        state: queued, running, cancelling, succeeded, failed, cancelled or expired.
        version: rises with every change.
        rate, eta_s: items a second, and seconds left at that rate; None before they are known.
        request: as resolved: every parameter has its value.
        fingerprints: of the network, the code and the inputs.
        error: {code, detail} of a job that failed as a whole.
    """

    id: str
    state: str
    version: int
    counts: Counts
    rate: float | None
    eta_s: float | None
    request: Mapping[str, Any]
    fingerprints: Mapping[str, Any]
    error: Mapping[str, Any] | None
    created_at: float
    started_at: float | None
    updated_at: float
    finished_at: float | None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From JSON."""
        return super().of({**data, "counts": Counts.of(data["counts"])})

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDS


@dataclass(frozen=True)
class Item(Answer):
    """One input of a job, and what came of it.

    Attributes:
        state: pending, running, succeeded, failed or skipped.
        attempt: how many were spent: ended in a result, an error or the death of the worker.
        facts: what the method tells, in JSON.
        pictures, arrays: names → addresses on the server; the first is the main one.
        sha256: of the image's bytes that it was computed on.
        error: {code, detail} of an item that failed.
    """

    n: int
    state: str
    custom_id: str | None
    image: str | None
    dataset: str | None
    path: str | None
    attempt: int
    facts: Mapping[str, Any] | None
    pictures: Mapping[str, str]
    arrays: Mapping[str, str]
    provenance: str | None
    sha256: str | None
    elapsed_s: float | None
    error: Mapping[str, Any] | None
    finished_at: float | None


@dataclass(frozen=True)
class Event(Answer):
    """Something that happened to a job: `kind` is "state", "item" or, last, "end".

    `id` is the job's version after it: what `events(job, after=id)` goes on from.
    """

    id: int
    kind: str
    data: Mapping[str, Any]
