"""HTTP connections whose clients must keep up.

uvicorn has no deadline for receiving a request, so a client that sends a byte now and then holds
its connection for ever. Here a connection is closed when its client is late with what is due: the
head of a request, the rest of a body that was answered already, or reading an answer. The body that
the application waits for has its deadline there (`middleware.Guard`), where it can be answered.
"""

import asyncio
import logging
import uuid
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from deconvnet_app.errors import Refusal
from deconvnet_app.http.middleware import HEADERS
from deconvnet_app.http.problems import MEDIA_TYPE, problem

log = logging.getLogger("deconvnet.access")


class PunctualProtocol(H11Protocol):
    """uvicorn's protocol with deadlines; made for a server by `punctual`.

    Attributes:
        receive_s: seconds for a head, and for reading a part of an answer.
        most: connections at once; any more are closed unanswered.
    """

    receive_s: ClassVar[float]
    most: ClassVar[int]

    _due: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._met()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._due is None and not self._serving:
            self._expect()  # the first bytes of a next request
        super().data_received(data)
        if self._serving:
            self._met()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._expect()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.receive_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, if nothing has been answered yet."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(Refusal(400, "bad_request", msg))
        else:
            self.transport.close()

    @property
    def _serving(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _expect(self) -> None:
        self._met()
        self._due = self.loop.call_later(self.receive_s, self._late)

    def _met(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _late(self) -> None:
        self._due = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            detail = f"The request's head was not complete within {self.receive_s:g} s."
            self._refuse(Refusal(408, "too_slow", detail))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what no application has seen, with all that its answers have."""
        request_id = uuid.uuid4().hex
        told = problem(refusal, self.scope["path"] if self._serving else "", request_id)
        headers = [
            ("Content-Type", MEDIA_TYPE),
            ("Connection", "close"),
            ("X-Request-Id", request_id),
            *HEADERS.items(),
        ]
        answer = h11.Response(status_code=told.status, headers=headers, reason=told.title.encode())
        body = h11.Data(data=told.model_dump_json().encode())
        for event in (answer, body, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        said = {"request_id": request_id, "status": told.status, "detail": told.detail}
        log.info("request", extra=said)


def punctual(receive_s: float, most: int) -> type[PunctualProtocol]:
    """The protocol of one server."""
    limits: dict[str, Any] = {"receive_s": receive_s, "most": most}
    return type("Punctual", (PunctualProtocol,), limits)
