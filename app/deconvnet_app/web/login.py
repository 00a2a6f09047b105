"""The link that works once: it gives the browser a session and leaves the address bar."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse

from deconvnet_app.access import SESSION_S
from deconvnet_app.errors import Refusal
from deconvnet_app.urls import Urls
from deconvnet_app.web.render import state_of

router = APIRouter(include_in_schema=False)


@router.get(Urls.LOGIN)
def login(request: Request, code: Annotated[str, Query(max_length=100)] = "") -> RedirectResponse:
    """Spend the code on a session; who has a session already needs none."""
    state = state_of(request)
    access = state.access
    home = RedirectResponse(Urls.HOME, 303, headers={"Cache-Control": "no-store"})
    if not state.settings.auth or access.knows(request.cookies.get(access.cookie, "")):
        return home
    if not access.spend(code):
        raise Refusal(
            410,
            "link_spent",
            "This link has been used, or is over an hour old. For a new one, run: deconvnet link "
            "--data-dir DIR, with the server's data directory.",
        )
    home.set_cookie(
        access.cookie,
        access.session(),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return home
