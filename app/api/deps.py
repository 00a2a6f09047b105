"""What routes ask for: the application's state, a page's place."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request, Response

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
        cursor = f"n{last}"
        url = self.request.url.include_query_params(cursor=cursor)
        self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return cursor


def get_paging(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000, description="items per page")] = 100,
    cursor: Annotated[
        str | None, Query(pattern=r"^n[0-9]{1,18}$", description="next_cursor of the last page")
    ] = None,
) -> Paging:
    """The page asked for."""
    return Paging(limit, int(cursor[1:]) if cursor else None, request, response)


Page = Annotated[Paging, Depends(get_paging)]
