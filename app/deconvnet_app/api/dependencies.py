"""What routes ask for: the application's state, a page's place."""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from pydantic import BeforeValidator

from deconvnet_app.errors import Fault, Refusal
from deconvnet_app.limits import PAGE_ITEMS
from deconvnet_app.numbers import whole_number
from deconvnet_app.state import AppState


def get_state(request: Request) -> AppState:
    """The application's state."""
    state: AppState = request.app.state.deconv
    return state


State = Annotated[AppState, Depends(get_state)]


@dataclass(frozen=True)
class Paging:
    """Where a page begins and how long it may be.

    Attributes:
        after: the number that the last page ended with; None: the first page.
    """

    limit: int
    after: int | None
    request: Request
    response: Response

    def link(self, last: int | None) -> str | None:
        """The next page's cursor, also told in the Link header; None if there is none."""
        if last is None:
            return None
        cursor = f"n{last}-{_listing(self.request)}"
        url = self.request.url.include_query_params(cursor=cursor)
        self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return cursor


def _listing(request: Request) -> str:
    """What tells a listing from the others: its address and its filters."""
    given = request.query_params.multi_items()
    filters = sorted((name, value) for name, value in given if name not in ("cursor", "limit"))
    text = json.dumps([request.scope["path"], filters])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _digits(text: str | int) -> str | int:
    """Left alone, Python would read a number in more spellings than one."""
    if isinstance(text, str) and whole_number(text) is None:
        raise ValueError("Expected a whole number in digits")
    return text


def get_paging(
    request: Request,
    response: Response,
    limit: Annotated[
        int, BeforeValidator(_digits), Query(ge=1, le=PAGE_ITEMS, description="items per page")
    ] = 100,
    cursor: Annotated[
        str | None,
        Query(
            pattern=r"^n[0-9]{1,18}-[0-9a-f]{8}$",
            description="next_cursor of the page before, with the same filters",
        ),
    ] = None,
) -> Paging:
    """The page asked for.

    Raises:
        Refusal: 422, a cursor of another listing, which would begin anywhere in this one.
    """
    after, _, listing = (cursor or "").removeprefix("n").partition("-")
    if cursor is not None and listing != _listing(request):
        detail = (
            f"Cursor '{cursor}' is of another listing, or was given with other filters. Leave it "
            "out to begin anew."
        )
        fault = Fault("/query/cursor", "foreign_cursor", detail)
        raise Refusal(422, "foreign_cursor", detail, [fault])
    return Paging(limit, int(after) if after else None, request, response)


Page = Annotated[Paging, Depends(get_paging)]
