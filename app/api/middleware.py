"""What every request passes: an id, a limit on its body, a check of its origin, safe headers.

HEAD is answered here for everything that answers GET: with the same headers and no body.
"""

import logging
import time
import uuid
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import Answer
from app.errors import Refusal

log = logging.getLogger("app.access")

SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware around everything.

    Args:
        most: bytes that a request's body may have.
        answer: makes the response to an exception.
    """

    def __init__(self, app: ASGIApp, most: int, answer: Answer) -> None:
        self.app = app
        self.most = most
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        begun = False
        head = scope["method"] == "HEAD"

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
                spent = (time.perf_counter() - started) * 1000
                log.info(
                    "%s %s %d %.1f ms", scope["method"], scope["path"], message["status"], spent
                )
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            self._check(scope)
            asked = {**scope, "method": "GET"} if head else scope
            await self.app(asked, self._counting(receive), sending)
        except Exception as error:
            if begun:
                raise
            response = await self.answer(Request(scope), error)
            await response(scope, receive, sending)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.most:
            raise self._too_large()
        if scope["method"] not in SAFE and _foreign(headers):
            detail = "Requests that change something are taken from this site's own pages only."
            raise Refusal(403, "cross_site", detail)

    def _counting(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.most:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> HTTPException:
        # Whatever else is raised while a body is read, FastAPI turns into its own 400.
        return HTTPException(413, f"The body is over {self.most} bytes.")


def _foreign(headers: Headers) -> bool:
    """Whether another site's page made a browser send this.

    Sec-Fetch-Site decides where a browser tells it: under no-referrer the Origin of a form that
    this site's own page posts is "null".
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("none", "same-origin")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
