"""Requests that are tried again where that is safe, and what is raised where it did not help.

ClientError               a DeconvnetError
├── ProblemError          the server refused: problem+json as one exception
└── UnreachableError      nobody answered, or not in time
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from deconvnet.client.responses import Fault
from deconvnet.errors import DeconvnetError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
AGAIN = ("idempotency_key_in_flight", "too_slow")
TYPE = "urn:deconvnet:problem:"


class ClientError(DeconvnetError):
    """Root of what the client raises."""


class UnreachableError(ClientError):
    """Nobody answered at the address, or not in time."""


class ProblemError(ClientError):
    """The server refused a request.

    Attributes:
        status: the HTTP status.
        code: a stable word, such as "not_found".
        detail: for a person.
        request_id: as the server's log has it.
        errors: what is wrong where in the body.
        retry_after: seconds after which to try again, if that would help.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        request_id: str = "",
        errors: tuple[Fault, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.errors = errors
        self.retry_after = retry_after

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status in (429, 503) or self.code in AGAIN


def problem(response: httpx2.Response) -> ProblemError:
    """A refusal as an exception; whoever else than the server has answered is told as it is."""
    response.read()
    after = response.headers.get("Retry-After", "")
    told: Any = {}
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        told = response.json()
    return ProblemError(
        response.status_code,
        str(told.get("type", "http_error")).removeprefix(TYPE),
        told.get("detail") or response.reason_phrase,
        told.get("request_id") or response.headers.get("X-Request-Id", ""),
        tuple(Fault.of(one) for one in told.get("errors", ())),
        float(after) if after.isdecimal() else None,
    )


class Transport:
    """Sends requests to one server.

    Args:
        http: with the server's address and the token.
        patience_s: how long a request is tried again: after 429 and 503, as long after as the
            server says, and where no answer came.
    """

    def __init__(self, http: httpx2.Client, patience_s: float) -> None:
        self.http = http
        self.patience_s = patience_s

    def send(self, method: str, path: str, *, safe: bool = True, **given: Any) -> httpx2.Response:
        """The answer, read whole.

        Args:
            safe: doing it twice is doing it once, so that it may be sent again when no answer came.

        Raises:
            ProblemError: the server refused, also in the end.
            UnreachableError: nobody answered, also in the end.
        """
        return self._answer(method, path, given, safe=safe, whole=True)

    @contextmanager
    def stream(self, method: str, path: str, **given: Any) -> Iterator[httpx2.Response]:
        """The answer, to be read by the caller; its start is tried again as `send` says."""
        response = self._answer(method, path, given, safe=True, whole=False)
        try:
            yield response
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def _answer(
        self, method: str, path: str, given: Any, *, safe: bool, whole: bool
    ) -> httpx2.Response:
        until = time.monotonic() + self.patience_s
        pause = FIRST_PAUSE_S
        while True:
            failure: ClientError
            try:
                request = self.http.build_request(method, path, **given)
                response = self.http.send(request, stream=not whole)
                if response.status_code < 400:
                    return response
                try:
                    failure = refusal = problem(response)
                finally:
                    response.close()
                if not refusal.passes:
                    raise failure
                wait = refusal.retry_after or pause
            except httpx2.TransportError as error:
                failure, wait = self._unreachable(error), pause
                sent = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if sent and not safe:
                    raise failure from error
            if time.monotonic() + wait > until:
                raise failure
            time.sleep(wait * random.uniform(1, 1.25))  # who was refused together comes apart
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(
            f"No answer from {self.http.base_url}: {reason}. Is the server running there?"
        )
