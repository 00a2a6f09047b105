"""What every request passes: an id, the checks, a limit on its body, safe headers.

HEAD is answered here for everything that answers GET: with the same headers and no body. Parts are
GET's alone (RFC 9110, 14.2).
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Sequence
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from deconvnet_app.errors import AppError
from deconvnet_app.http.checks import Check
from deconvnet_app.http.files import without_ranges
from deconvnet_app.http.problems import ExceptionHandler
from deconvnet_app.metrics import Metrics
from deconvnet_app.urls import API, Urls

log = logging.getLogger("deconvnet.access")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OFTEN = ("/livez", "/readyz", "/metrics", Urls.STATIC)  # said at level debug alone

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[^?#]*)?", re.IGNORECASE)


def _origin_form(scope: Scope) -> Scope:
    """A request for a whole URL as one for its path at its host (RFC 9112, 3.2.2)."""
    found = _ABSOLUTE.fullmatch(scope.get("raw_path", b""))
    if found is None:
        return scope
    raw_path = found[2] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    path = unquote(raw_path.decode("ascii"))
    return {**scope, "raw_path": raw_path, "path": path, "headers": [(b"host", found[1]), *headers]}


class Guard:
    """ASGI middleware around everything.

    Args:
        most: bytes that a request's body may have.
        most_parsed: bytes of one that is no multipart, which would be parsed at one go: nobody else
            is answered meanwhile.
        patience_s: how long to wait for a body in all, besides a second for every `rate` bytes.
        rate: bytes a second that its sender must reach.
        metrics: is told how long each answer took.
        checks: each may refuse a request before its body is read.
        answer: makes the response to an exception.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        most: int,
        most_parsed: int,
        patience_s: float,
        rate: int,
        metrics: Metrics,
        checks: Sequence[Check],
        answer: ExceptionHandler,
    ) -> None:
        self.app = app
        self.most = most
        self.most_parsed = min(most, most_parsed)
        self.patience_s = patience_s
        self.rate = rate
        self.metrics = metrics
        self.checks = checks
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope = _origin_form(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        with bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        status, location = 0, ""
        head = scope["method"] == "HEAD"
        asked = {**without_ranges(scope), "method": "GET"} if head else scope

        async def sending(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
                location = headers.get("location", "")
            elif head:
                return  # of a body that may never end
            await send(message)
            if head:
                await send({"type": "http.response.body", "body": b""})

        try:
            most = self._check(Request(scope))
            await self.app(asked, self._counting(receive, most), sending)
        except Exception as error:
            if status:
                self._break_off(error)
                return
            response = await self.answer(Request(scope), error)
            await response(scope, receive, sending)
        finally:
            self._note(asked, scope["method"], status, location, time.perf_counter() - started)

    def _break_off(self, error: Exception) -> None:
        """An answer that has begun cannot become another: it ends short, which a client can tell.

        What is said on purpose, as of a job that was deleted meanwhile, needs no traceback.
        """
        if not isinstance(error, AppError):
            raise error
        log.warning("An answer is broken off: %s", error)

    def _note(self, scope: Scope, method: str, status: int, location: str, spent: float) -> None:
        """Count the request and log it: its path, never its query, which may hold a code."""
        route = _route(scope)
        self.metrics.requests.labels(
            method if method in METHODS else "other", route, str(status)
        ).observe(spent)
        told = {
            "method": method,
            "path": scope["path"],
            "status": status,
            "ms": round(spent * 1000, 1),
        }
        job = scope.get("path_params", {}).get("job") or _made(location)
        level = logging.DEBUG if route in OFTEN and status < 400 else logging.INFO
        log.log(level, "request", extra=told | ({"job": job} if job else {}))

    def _check(self, request: Request) -> int:
        """Refuse what may be refused by its head alone; the bytes that its body may have."""
        for check in self.checks:
            check(request)
        kind = request.headers.get("content-type", "").lower()
        most = self.most if kind.startswith("multipart/") else self.most_parsed
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise self._too_large(most)
        return most

    def _counting(self, receive: Receive, most: int) -> Receive:
        taken = 0
        waited = 0.0
        complete = False

        async def counted() -> Message:
            nonlocal taken, waited, complete
            if complete:
                return await receive()  # of what follows a body, only its end
            left = self.patience_s + taken / self.rate - waited
            since = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError as error:
                raise self._too_slow() from error
            waited += time.monotonic() - since
            taken += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if taken > most:
                raise self._too_large(most)
            return message

        return counted

    # Whatever else than HTTPException is raised while a body is read, FastAPI turns into its 400.

    def _too_slow(self) -> HTTPException:
        detail = f"The body came too slowly: under {self.rate} bytes a second."
        return HTTPException(408, detail, headers={"Connection": "close"})

    def _too_large(self, most: int) -> HTTPException:
        return HTTPException(413, f"The body is over {most} bytes.")


def _route(scope: Scope) -> str:
    """The address's pattern, so that there are few: a router's own routes know no prefix."""
    path: str = scope["path"]
    if path.startswith(f"{Urls.STATIC}/"):
        return Urls.STATIC
    found: str | None = getattr(scope.get("route"), "path", None)
    if found is None:
        return "none"
    prefix = API.ROOT if path.startswith(API.ROOT) else ""
    return found if found.startswith(prefix) else prefix + found


def _made(location: str) -> str:
    """The job that a submission made, by where it is."""
    _, found, job = location.partition("/jobs/")
    return job if found else ""
