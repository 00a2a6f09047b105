"""Stored files as answers: for ever the same, so with a strong ETag, whole or in parts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from deconvnet_app.errors import Refusal
from deconvnet_app.limits import RANGES

IfNoneMatch = Annotated[
    str | None, Header(description="ETags that the client has: 304 if one of them is still right")
]

IMMUTABLE = "private, max-age=31536000, immutable"

_NUMBER = "[0-9]{1,18}"
_RANGE = rf"(?:{_NUMBER}-(?:{_NUMBER})?|-{_NUMBER})"
_RANGES = re.compile(rf"bytes=\s*({_RANGE}(?:\s*,\s*{_RANGE})*)\s*", re.IGNORECASE)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has what the ETag names, compared weakly as If-None-Match is."""
    known = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return "*" in known or etag in known


@dataclass(frozen=True)
class Wanted:
    """Which part of a file a client asks for, and what it has already."""

    if_none_match: str | None
    range: str | None
    if_range: str | None


def get_wanted(
    if_none_match: IfNoneMatch = None,
    range: Annotated[str | None, Header(description="bytes=first-last: a part alone")] = None,
    if_range: Annotated[
        str | None, Header(description="an ETag: a part only of that very file")
    ] = None,
) -> Wanted:
    """The headers that say it."""
    return Wanted(if_none_match, range, if_range)


Asked = Annotated[Wanted, Depends(get_wanted)]


def picture(path: Path, sha256: str, asked: Wanted, media_type: str = "image/png") -> Response:
    """A stored file; 304 if the client has it already.

    Raises:
        Refusal: 416, the file has none of the parts.
    """
    headers = {"ETag": f'"{sha256}"', "Cache-Control": IMMUTABLE}
    if matches(asked.if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    there = path.stat()
    ranges = []
    if asked.range is not None and asked.if_range in (None, headers["ETag"]):
        ranges = _ranges(asked.range, there.st_size)
    return StoredFile(
        path, headers=headers, media_type=media_type, stat_result=there, ranges=ranges
    )


class _UnsatisfiableError(Refusal):
    """Parts that the file does not have (416)."""

    def __init__(self, size: int) -> None:
        super().__init__(416, "no_such_range", f"The file has {size} bytes; Range asks beyond.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class StoredFile(FileResponse):
    """A file whose parts were looked at before: what Starlette refuses itself is no problem+json.

    Args:
        ranges: the parts to send, all there; none: the whole.
    """

    def __init__(self, *args: Any, ranges: Sequence[str] = (), **given: Any) -> None:
        super().__init__(*args, **given)
        self.ranges = ranges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = without_ranges(scope)
        if self.ranges:
            asked["headers"].append((b"range", f"bytes={','.join(self.ranges)}".encode()))
        await super().__call__(asked, receive, send)


def without_ranges(scope: Scope) -> dict[str, Any]:
    """The request as if it asked for the whole."""
    headers = [one for one in scope["headers"] if one[0] not in (b"range", b"if-range")]
    return {**scope, "headers": headers}


def _ranges(wanted: str, size: int) -> list[str]:
    """The parts that there are of those asked for; none: the whole file is due (RFC 9110, 14.2).

    Raises:
        Refusal: 416, there are none of them.
    """
    found = _RANGES.fullmatch(wanted)
    ranges = [one.strip() for one in found[1].split(",")] if found else []
    ends = [one.split("-") for one in ranges]
    backwards = any(first and last and int(last) < int(first) for first, last in ends)
    if not ranges or backwards or len(ranges) > RANGES:
        return []
    there = [
        f"{first}-{last}"
        for first, last in ends
        if (int(first) < size if first else int(last) > 0 and size > 0)
    ]
    if not there:
        raise _UnsatisfiableError(size)
    return there
