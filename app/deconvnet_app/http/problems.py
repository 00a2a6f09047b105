"""Every error as application/problem+json (RFC 9457), whatever raised it."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from sqlalchemy import exc as database
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from deconvnet.errors import DeconvnetError
from deconvnet_app.artifacts import disk_refusal
from deconvnet_app.compute.spec import UnitError, WorkerLostError
from deconvnet_app.errors import (
    MOST_SHOWN,
    ArtifactMissingError,
    DamagedError,
    Refusal,
    StorageFullError,
    invalid_body,
    without_folders,
)
from deconvnet_app.urls import API

log = logging.getLogger(__name__)


class Answer(BaseModel):
    """Root of the answers."""

    model_config = ConfigDict(frozen=True)


class ProblemFault(Answer):
    """One thing wrong with a request."""

    pointer: str
    code: str
    detail: str


class Problem(Answer):
    """An error, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[ProblemFault] = []


ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]
Page = Callable[[Request, Problem], Response]

MEDIA_TYPE = "application/problem+json"
CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "body_too_large",
}


def problem(refusal: Refusal, instance: str, request_id: str) -> Problem:
    """The error as data."""
    return Problem(
        type=f"urn:deconvnet:problem:{refusal.code}",
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        detail=refusal.detail,
        instance=instance,
        request_id=request_id,
        errors=[ProblemFault(**vars(fault)) for fault in refusal.faults],
    )


def as_refusal(error: Exception) -> Refusal:
    """Any exception as what the client may know of it."""
    if isinstance(error, Refusal):
        return error
    # A body's parts are kept in temporary files; FastAPI makes a 400 of whatever happens there.
    disk = error.__cause__ if isinstance(error, HTTPException) else error
    if isinstance(disk, OSError):
        error = disk_refusal(disk) or error
    for kind, told in _TOLD.items():
        if isinstance(error, kind):
            return told(error)
    return Refusal(500, "internal_error", "Something went wrong here; the log has the details.")


def _of_unit(error: UnitError) -> Refusal:
    again = 2 if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return Refusal(error.status, error.code, error.detail, retry_after=again)


def _of_http(error: HTTPException) -> Refusal:
    code = CODES.get(error.status_code, "http_error")
    return Refusal(error.status_code, code, str(error.detail))


def _of_body(error: RequestValidationError) -> Refusal:
    """FastAPI's own list, its places turned into pointers into the body."""
    if isinstance(error.body, bytes):
        detail = "The body is not JSON, or does not say so. Send Content-Type: application/json."
        return Refusal(422, "not_json", detail)
    found = []
    for one in error.errors():
        if one["type"] == "json_invalid":
            return Refusal(400, "bad_json", f"The body is not JSON: {one['ctx']['error']}.")
        source, *place = one["loc"]
        if source == "body":
            pointer = _pointed(place, error.body)
            if one["type"] == "missing":
                pointer += place[-1:]
            elif one["type"].startswith("union_tag"):
                pointer.append(one["ctx"]["discriminator"].strip("'"))
            found.append({**one, "loc": pointer})
        else:
            found.append({**one, "loc": [source, *place]})
    return invalid_body(found)


def _pointed(place: Sequence[int | str], body: Any) -> list[int | str]:
    """The parts of a place that are in the body: a union's branch, such as "occlusion", is not."""
    pointer: list[int | str] = []
    for part in place:
        inside = isinstance(body, Mapping) and part in body
        if inside or (isinstance(body, list) and isinstance(part, int) and part < len(body)):
            pointer.append(part)
            body = body[part]
    return pointer


_DATABASE_BUSY = Refusal(503, "database_busy", "The database is busy. Try again.", retry_after=2)

_TOLD: Mapping[type[Exception], Callable[[Any], Refusal]] = {
    UnitError: _of_unit,
    RequestValidationError: _of_body,
    HTTPException: _of_http,
    StorageFullError: lambda error: Refusal(507, "storage_full", str(error)),
    ArtifactMissingError: lambda error: Refusal(404, "not_found", str(error)),
    WorkerLostError: lambda _: Refusal(503, "stopping", "The server is stopping.", retry_after=5),
    DamagedError: lambda error: Refusal(503, "database_damaged", str(error), retry_after=60),
    database.OperationalError: lambda _: _DATABASE_BUSY,
    database.InterfaceError: lambda _: _DATABASE_BUSY,
    database.TimeoutError: lambda _: _DATABASE_BUSY,
    database.IntegrityError: lambda _: Refusal(
        503,
        "database_damaged",
        "The database refuses what has to be stored: it is damaged, or has rules of its own. "
        "Whoever runs this server finds more in its log.",
        retry_after=60,
    ),
    database.DataError: lambda _: Refusal(
        422, "invalid", "A text holds what cannot be stored, such as NUL."
    ),
    DeconvnetError: lambda error: Refusal(422, "invalid", without_folders(str(error))),
}


# What the router refuses says no more than its title.
_NAKED = {
    404: "There is nothing at {}. GET /api/v1 lists what there is.",
    405: "{} does not take this method. The header Allow tells which it takes.",
}


def answerer(page: Page | None) -> ExceptionHandler:
    """What answers any exception.

    Args:
        page: makes the HTML of an error, for pages outside /api.
    """

    async def answer(request: Request, error: Exception) -> Response:
        refusal = as_refusal(error)
        path: str = request.scope["path"]
        if refusal.detail == HTTPStatus(refusal.status).phrase and path.startswith(API.ROOT):
            refusal.detail = _NAKED.get(refusal.status, refusal.detail).format(path[:MOST_SHOWN])
        request_id = request.scope.get("state", {}).get("request_id", "")
        if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR and refusal is not error:
            trace = error if refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR else None
            log.error("Request %s failed: %s", request_id, error, exc_info=trace)
        told = problem(refusal, request.scope["path"], request_id)
        response = _present(request, told, page)
        response.headers.update(getattr(error, "headers", None) or {})
        if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED and (taken := _allowed(request)):
            response.headers["Allow"] = ", ".join(taken)
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(refusal.retry_after)
        return response

    return answer


def _allowed(request: Request) -> list[str]:
    """What the address answers: its routes are one for each method, and each knows its own."""
    found = [
        verb
        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": verb})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return [*found, "HEAD"] if "GET" in found else found


def _present(request: Request, told: Problem, page: Page | None) -> Response:
    wants_html = "text/html" in request.headers.get("accept", "")
    if page is not None and wants_html and not request.scope["path"].startswith("/api/"):
        return page(request, told)
    return JSONResponse(told.model_dump(), told.status, media_type=MEDIA_TYPE)
