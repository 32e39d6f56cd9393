"""Receives the body of a request within its limits, and sends answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from jaxdrl.serving.bodies import JSON, KINDS, NPY, Headers, Kind
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.refusals import RefusedError
from jaxdrl.serving.service import Service

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

SMALL = 65_536
"""Bytes of a body that is read to its end although its request is refused."""

LINGER = 1.0
"""Seconds in which the rest of a larger one is read, so that its client sees the answer."""


class GoneError(Exception):
    """The client has closed the connection."""


def has_body(headers: Headers) -> bool:
    """Whether a request has a body."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def is_large(headers: Headers) -> bool:
    """Whether the body of a request may be too large to be read in vain."""
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length) > SMALL


def require_no_upgrade(headers: Headers) -> None:
    """Refuses a request for another protocol, after which nothing of HTTP can be read.

    Raises:
      RefusedError: if it is one.
    """
    if b"upgrade" in headers:
        words = "upgrade: this server speaks HTTP/1.1 only; send the request without this header"
        raise RefusedError(400, words, "upgrade")


def kind_of(headers: Headers) -> Kind:
    """The kind of body of a request for actions.

    Raises:
      RefusedError: if it cannot be read.
    """
    name = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if name not in KINDS:
        words = f"must be {JSON.decode()}, or {NPY.decode()} for an array"
        raise RefusedError(415, f"content-type: {words}", "content-type")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RefusedError(415, "content-encoding: send the body as it is", "content-encoding")
    return KINDS[name]


async def read_body(
    service: Service, kind: Kind | None, headers: Headers, receive: Receive
) -> bytes:
    """The body of a request.

    Args:
      service: the server.
      kind: of the body, None where it is not for actions.
      headers: of the request.
      receive: gives the parts of the body.

    Raises:
      RefusedError: if it is too large or too slow, or too much arrives already.
      GoneError: if the client has gone.
    """
    limits, parts, size = service.limits, list[bytes](), 0
    _require_size(int(headers.get(b"content-length", b"0")), limits, kind)
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise GoneError
                part = message.get("body", b"")
                service.num_bytes += len(part)
                size += len(part)
                parts.append(part)
                _require_size(size, limits, kind)
                if service.num_bytes > limits.max_bytes_in_flight:
                    words = "too many large requests at once; ask again later"
                    raise RefusedError(503, words, None, ((b"retry-after", b"1"),))
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        words = f"body: did not arrive within {limits.body_seconds:g} s"
        raise RefusedError(408, words, "body") from None
    finally:
        service.num_bytes -= size


def _require_size(size: int, limits: Limits, kind: Kind | None) -> None:
    if size > limits.max_body:
        words = f"body: has more than the {limits.max_body} bytes that this server takes"
        raise RefusedError(413, words, "body")
    if size > limits.max_json and kind != KINDS[NPY]:
        words = f"body: has more than the {limits.max_json} bytes of JSON that this server takes"
        raise RefusedError(413, f"{words}; send an array as {NPY.decode()}", "body")


async def reply(
    service: Service,
    send: Send,
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    drain: Receive | None = None,
) -> None:
    """Sends an answer.

    Args:
      service: counts it.
      send: of the request.
      status: of the answer.
      headers: of the answer, but for its length.
      body: of the answer.
      drain: reads the rest of a request that is not wanted, before the connection is closed.
    """
    service.metrics.requests.labels(status).inc()
    headers.append((b"content-length", b"%d" % len(body)))
    if drain is not None or service.is_ending:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if drain is None:
        await send({"type": "http.response.body", "body": body})
        return
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(LINGER):
            while (message := await drain())["type"] == "http.request":
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


async def refuse(
    service: Service, send: Send, refusal: RefusedError, drain: Receive | None = None
) -> None:
    """Answers that a request is refused."""
    headers = [(b"content-type", JSON), *refusal.headers]
    await reply(service, send, refusal.status, headers, refusal.body, drain)
