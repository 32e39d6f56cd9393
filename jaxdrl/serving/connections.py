"""Connections to a server: how many there may be, and how long and large a request may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jaxdrl.serving.limits import Limits
from jaxdrl.serving.refusals import RefusedError

MAX_HEAD = 65_536
"""Bytes of the request line and the headers after which no more are read."""

LINGER = 1.0
"""Seconds for which a connection is read on after it was refused."""

LEEWAY = 0.5
"""Seconds that a body may be late beyond the limit, at which its request is answered anyway."""


class Connections:
    """The open connections of a server.

    Args:
      limits: of the server.
      on_refusal: is called with the status of what is answered here.

    Attributes:
      open: those that have begun a request or wait for one.
    """

    def __init__(self, limits: Limits, on_refusal: Callable[[int], Any]) -> None:
        self.limits, self.on_refusal, self.open = limits, on_refusal, set[Any]()

    def protocol(self) -> type[HttpToolsProtocol]:
        """The class that uvicorn makes for each connection."""
        return type("LimitedProtocol", (_Limited,), {"known": self})

    def close_slow(self) -> None:
        """Closes connections whose request has not arrived in time."""
        oldest = time.monotonic() - self.limits.body_seconds - LEEWAY
        for connection in list(self.open):
            if connection.begun is not None and connection.begun < oldest:
                connection.end_slow()


class _Limited(HttpToolsProtocol):
    """A connection, or one too many.

    Attributes:
      known: all connections.
      begun: when the request began that has not arrived yet, None between requests.
    """

    known: Connections
    begun: float | None = None
    num_head = 0
    is_head = True
    is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.known.open) >= self.known.limits.max_connections:
            words = f"there are {self.known.limits.max_connections} connections; try again later"
            self._refuse(transport, RefusedError(503, words))
            return
        self.known.open.add(self)
        self.begun = time.monotonic()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.known.open:
            self.known.open.discard(self)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        if self.is_head:
            if self.num_head > MAX_HEAD:
                words = "headers: are longer than this server takes"
                self._refuse(self.transport, RefusedError(431, words, "headers"))
                return
            self.num_head += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Is called when the first bytes of a request have arrived."""
        self.begun, self.is_head = time.monotonic(), True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Is called when the body of a request begins."""
        self.is_head, self.num_head = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Is called when a request has arrived."""
        self.begun = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP."""
        self._refuse(self.transport, RefusedError(400, "the request is not valid HTTP"))

    def end_slow(self) -> None:
        """Ends a connection whose request has not arrived in time."""
        seconds = self.known.limits.body_seconds
        self._refuse(self.transport, RefusedError(408, f"no request arrived within {seconds:g} s"))

    def _refuse(self, transport: asyncio.Transport, refusal: RefusedError) -> None:
        """Answers by itself, unless an answer has begun, and closes the connection.

        What still arrives is read for a while: otherwise the client may not see the answer.
        """
        if self.is_refused or transport.is_closing():
            return
        self.is_refused = True
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            status = HTTPStatus(refusal.status)
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(refusal.body)}\r\nconnection: close\r\n\r\n"
            )
            transport.write(head.encode() + refusal.body)
            self.known.on_refusal(refusal.status)
        if self.cycle is not None and self.cycle.more_body:
            self.cycle.disconnected = True  # for the application, which may wait for the body
            self.cycle.message_event.set()
        self.loop.call_later(LINGER, transport.abort)
