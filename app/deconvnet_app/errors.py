"""What the application raises on purpose.

AppError
├── Refusal               a request that is refused: HTTP status, code and what to do about it
├── ArtifactMissingError  a stored file that is not there
├── StorageFullError      no room left, on the disk or in the quota, or a disk that takes no writes
├── DatabaseError_        a database that cannot be used as it is: corrupt, or of a newer program
├── DamagedError          rows of the database that cannot be read
├── TokenError            a token file that cannot be used as it is
├── PortError             a port that cannot be listened on
├── ClusterError          a Ray cluster that is not there, or that is not used as it is
├── DataDirBusyError      another server has this data directory
└── DataDirError          a data directory that cannot be made or written to
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

MOST_FAULTS = 100

_FOLDERS = re.compile(r"(?<![^\s'\"(=:])/(?:[^/\s'\"]+/)+")


MOST_SHOWN = 80  # characters of a value that somebody sent


class AppError(Exception):
    """Root of the tree."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request's body: a JSON pointer to it, a code, and why."""

    pointer: str
    code: str
    detail: str


class Refusal(AppError):
    """A request that is refused.

    Args:
        status: the HTTP status, 4xx or 5xx.
        code: a stable word for programs, such as "not_found".
        detail: the subject, its value, what was expected and the remedy.
        faults: where in the body, if there.
        retry_after: seconds after which to try again, if that would help.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        faults: Sequence[Fault] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after = retry_after


class ArtifactMissingError(AppError):
    """A stored file that is not there."""


class StorageFullError(AppError):
    """Nothing can be stored now; what was stored before is whole."""


class DatabaseError_(AppError):
    """A database that cannot be used as it is."""


class DamagedError(AppError):
    """What the database holds cannot be read; whatever needs no such row goes on."""


class TokenError(AppError):
    """A token file that cannot be used as it is."""


class PortError(AppError):
    """A port that cannot be listened on."""


class ClusterError(AppError):
    """A Ray cluster that is not there, or that is not used as it is."""


class DataDirBusyError(AppError):
    """Another server has this data directory."""


class DataDirError(AppError):
    """A data directory that cannot be made or written to."""


def without_folders(text: str) -> str:
    """What the engine says, for whoever asks over the network: no folder of this machine in it."""
    return _FOLDERS.sub("", text)


def invalid(error: ValidationError, prefix: str = "") -> Refusal:
    """A validation error as a refusal (422) with a JSON pointer to each fault."""
    return invalid_body(error.errors(include_url=False), prefix)


def invalid_body(found: Sequence[Any], prefix: str = "") -> Refusal:
    """Pydantic's list of errors as a refusal (422): the first of them, and no more text than helps.

    A body of a few megabytes may have faults by the hundred thousand, and repeat any text in them.
    """
    faults = [
        Fault(
            prefix + "".join(f"/{_escaped(str(part))}" for part in one["loc"]),
            one["type"],
            _cut(_words(one), 400),
        )
        for one in found[:MOST_FAULTS]
    ]
    detail = "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults[:3])
    return Refusal(422, "invalid", f"The request is not valid: {detail}.", faults)


def _escaped(part: str) -> str:
    """A part of a JSON pointer (RFC 6901, 3)."""
    return _cut(part, 256).replace("~", "~0").replace("/", "~1")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


_PLAIN = {
    "missing": "It is missing",
    "union_tag_not_found": "It is missing",
    "extra_forbidden": "There is nothing of this name; leave it out",
    "model_attributes_type": "Expected a JSON object",
}


def _words(one: Mapping[str, Any]) -> str:
    """What is expected, and the value that was found, where that is one value."""
    if one["type"] in _PLAIN:
        return _PLAIN[one["type"]]
    told: str = one["msg"].removeprefix("Value error, ").rstrip(".")
    if "UploadFile" in told:
        return "Expected a file"
    value = one.get("input")
    if not isinstance(value, str | int | float) or str(value)[:MOST_SHOWN] in told:
        return told
    return f"{told}; it is {_cut(json.dumps(value, ensure_ascii=False), MOST_SHOWN)}"
