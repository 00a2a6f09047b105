"""What routes ask for: the application's state, a page's place, a client's key.

Who is asking will be found out here too, once there is a token to show.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from app.errors import Fault, Refusal
from app.state import AppState


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
        cursor = base64.urlsafe_b64encode(f"n{last}".encode()).decode().rstrip("=")
        url = self.request.url.include_query_params(cursor=cursor)
        self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return cursor


def get_paging(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000, description="items per page")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=64, description="next_cursor of the last page")
    ] = None,
) -> Paging:
    """The page asked for; raises Refusal (422) for a cursor that is not ours."""
    return Paging(limit, _decode(cursor), request, response)


def _decode(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if not (text.startswith("n") and text[1:].isdecimal() and len(text) < 20):
            raise ValueError(text)
        return int(text[1:])
    except (ValueError, binascii.Error) as error:
        detail = "The cursor is not one of ours. Use next_cursor of the last page, or none."
        fault = Fault("/query/cursor", "invalid", detail)
        raise Refusal(422, "invalid", detail, [fault]) from error


Page = Annotated[Paging, Depends(get_paging)]
