"""What a request must show before anything is done for it, each check a call that may refuse."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

from fastapi import Request

from deconvnet_app.access import Access
from deconvnet_app.errors import Refusal
from deconvnet_app.http.rates import MovingWindow
from deconvnet_app.limits import HEAD_BYTES
from deconvnet_app.settings import Settings
from deconvnet_app.urls import API, Urls

Check = Callable[[Request], None]

SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/livez", "/readyz", Urls.LOGIN)
LOCAL = ("127.0.0.1", "localhost", "::1")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")


class TwoLengthsError(Refusal):
    """A body of two lengths (400), after which nothing on the connection can be trusted."""

    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}

    def __init__(self) -> None:
        detail = "Content-Length and Transfer-Encoding contradict each other. Send one of them."
        super().__init__(400, "bad_request", detail)


class SignInError(Refusal):
    """Nobody that is known (401)."""

    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="deconvnet"'}

    def __init__(self, detail: str) -> None:
        super().__init__(401, "sign_in", detail)


def one_reading(request: Request) -> None:
    """A head of sensible size, and a body as it is, whose end nobody on the way can see elsewhere.

    With both headers a proxy may take the body's rest for the next request (RFC 9112, 6.1).
    """
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        raise TwoLengthsError
    size = sum(len(name) + len(value) + 4 for name, value in request.scope["headers"])  # ": ", CRLF
    if (
        size + len(request.scope.get("raw_path", b"")) + len(request.scope["query_string"])
        > HEAD_BYTES
    ):
        detail = f"The request's head is over {HEAD_BYTES} bytes. Send less of it."
        raise Refusal(431, "head_too_large", detail)
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        detail = f"Content-Encoding '{coding[:80]}' is not taken. Send the body as it is."
        raise Refusal(415, "unsupported_encoding", detail)


def known_host(names: Collection[str]) -> Check:
    """The server is asked by a name of its own: a foreign one may be rebound to its address."""
    known = {name.lower() for name in names}

    def check(request: Request) -> None:
        host = _host_of(request.headers.get("host", ""))
        if host not in known:
            raise Refusal(
                400,
                "foreign_host",
                f"Host '{host[:80]}' is not a name of this server. Use the address that it printed "
                "at its start, or start it with --allowed-host.",
            )

    return check


def _host_of(header: str) -> str:
    """The name without its port."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower() if found else header


def own_site(request: Request) -> None:
    """No other site's page made the browser change something here.

    Sec-Fetch-Site decides where a browser tells it: under no-referrer the Origin of a form that
    this site's own page posts is "null".
    """
    if request.method in SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        foreign = site not in ("none", "same-origin")
    else:
        origin = request.headers.get("origin")
        own = request.headers.get("host", "")
        foreign = origin is not None and origin.lower().partition("://")[2] != own.lower()
    if foreign:
        detail = "Requests that change something are taken from this site's own pages only."
        raise Refusal(403, "cross_site", detail)


def signed_in(access: Access) -> Check:
    """Whoever asks shows the token or a session, but for what is open to all."""

    def check(request: Request) -> None:
        path = request.scope["path"]  # request.url is made with the Host header, which may lie
        if path in OPEN or path.startswith(f"{Urls.STATIC}/"):
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and access.admits(token.strip()):
            return
        if access.knows(request.cookies.get(access.cookie, "")):
            return
        raise SignInError(
            "Programs send 'Authorization: Bearer TOKEN', with the token from the file 'token' of "
            "the server's data directory."
            if path.startswith("/api/")
            else "You are not signed in here. Open the link that the server printed at its start; "
            "for a new one, run: deconvnet link --data-dir DIR. If you have just come by such a "
            "link from another site, load this page again."
        )

    return check


def within_rates(submissions: int, uploads: int) -> Check:
    """No more of them than that in any minute."""
    posting, uploading = MovingWindow(submissions), MovingWindow(uploads)
    rates = {
        ("POST", API.collection("jobs")): (posting, "submissions"),
        ("POST", Urls.JOBS): (posting, "submissions"),
        ("POST", API.collection("images")): (uploading, "uploads"),
        ("POST", Urls.OCCLUSION): (uploading, "uploads"),
    }

    def check(request: Request) -> None:
        window, what = rates.get((request.method, request.scope["path"]), (None, ""))
        if window is None or not (wait := window.take()):
            return
        raise Refusal(
            429,
            "too_many",
            f"Over {window.most} {what} within a minute. Try again later.",
            retry_after=math.ceil(wait),
        )

    return check


def make_checks(settings: Settings, access: Access) -> list[Check]:
    """The checks of every request, in their order."""
    names = [*LOCAL, settings.host, *settings.allowed_hosts]
    asked = [signed_in(access)] if settings.auth else []
    rates = within_rates(settings.submissions, settings.uploads)
    return [one_reading, known_host(names), own_site, *asked, rates]
