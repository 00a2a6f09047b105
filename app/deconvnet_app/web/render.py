"""From a Context to a response: as HTML, or as its JSON twin."""

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from deconvnet_app.http.files import without_ranges
from deconvnet_app.settings import share_dir
from deconvnet_app.state import AppState
from deconvnet_app.urls import Urls
from deconvnet_app.web.page import Page

Made = Page | Response
H = TypeVar("H", bound=Callable[..., Any])

_YEAR = "public, max-age=31536000, immutable"


def state_of(request: Request) -> AppState:
    """The running application's parts."""
    return cast(AppState, request.app.state.deconv)


@functools.cache
def _stamp(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def static(name: str) -> str:
    """The URL of a file of `static/`, stamped with its content."""
    return f"{Urls.STATIC}/{name}?v={_stamp(share_dir('static') / name)}"


@functools.cache
def environment() -> Environment:
    """The templates, with everything escaped and nothing undefined."""
    env = Environment(
        loader=FileSystemLoader(share_dir("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(urls=Urls, static=static)
    return env


def html(template: str, page: Page, status: int = 200) -> HTMLResponse:
    """The page as HTML."""
    text = environment().get_template(f"pages/{template}").render(page=page)
    return HTMLResponse(text, status, headers={"Cache-Control": "no-cache"})


def add_page(
    router: APIRouter, path: str, template: str, json_path: str | None = None
) -> Callable[[H], H]:
    """Serve a function's Context at `path` as HTML and at `path`.json as JSON.

    A Response that the function gives instead, such as a redirect, goes out as it is. A function
    that is not async reads files: it runs in a thread.
    """

    def register(handler: H) -> H:
        async def make(*args: Any, **kwargs: Any) -> Made:
            if inspect.iscoroutinefunction(handler):
                return cast(Made, await handler(*args, **kwargs))
            return cast(Made, await run_in_threadpool(handler, *args, **kwargs))

        @functools.wraps(handler)
        async def as_json(*args: Any, **kwargs: Any) -> Response:
            made = await make(*args, **kwargs)
            if isinstance(made, Response):
                return made
            return JSONResponse(made.model_dump(mode="json"), headers={"Cache-Control": "no-cache"})

        @functools.wraps(handler)
        async def as_html(*args: Any, **kwargs: Any) -> Response:
            made = await make(*args, **kwargs)
            return made if isinstance(made, Response) else html(template, made)

        router.add_api_route(
            json_path or f"{path}.json", as_json, include_in_schema=False, response_model=None
        )
        router.add_api_route(path, as_html, include_in_schema=False, response_model=None)
        return handler

    return register


class Assets(StaticFiles):
    """`static/`: kept for a year under a stamped URL, else revalidated."""

    def __init__(self) -> None:
        super().__init__(directory=share_dir("static"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whole files: a part that is not there would be refused in plain text."""
        await super().__call__(without_ranges(scope), receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, with its caching rule."""
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        response = await super().get_response(path, scope)
        stamped = b"v=" in scope.get("query_string", b"")
        response.headers["Accept-Ranges"] = "none"
        response.headers["Cache-Control"] = _YEAR if stamped else "no-cache"
        return response
