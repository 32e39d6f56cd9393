"""The HTTP interface of a policy in use, as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from jaxdrl.serving import about
from jaxdrl.serving.access import require_access
from jaxdrl.serving.refusals import RefusedError
from jaxdrl.serving.requests import (
    GoneError,
    Receive,
    Send,
    has_body,
    is_large,
    kind_of,
    read_body,
    refuse,
    reply,
    require_no_upgrade,
)
from jaxdrl.serving.service import Service, answer

Application = Callable[[Any, Receive, Send], Any]

FAULT = RefusedError(500, "the server has failed to answer; its operator sees why")
ENDED = RefusedError(503, "the server has ended before it could answer")


def make_app(service: Service) -> Application:
    """The application; `POST /act` has the short way, and Starlette answers what else there is."""
    others = _others(service)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers, is_read = dict(scope["headers"]), False
        is_act = scope["path"] == "/act" and scope["method"] == "POST"
        started = perf_counter()
        try:
            given = (headers.get(name) for name in (b"authorization", b"origin", b"host"))
            require_access(service.token, scope["path"], *given)
            require_no_upgrade(headers)
            kind, body = kind_of(headers) if is_act else None, b""
            if has_body(headers):
                body = await read_body(service, kind, headers, receive)
            is_read = True
            if kind is not None:
                found = await answer(service, kind, headers, body)
                service.metrics.answers.inc()
                service.metrics.observations.inc(found.num)
                await reply(service, send, 200, found.headers, found.body)
                service.metrics.seconds.observe(perf_counter() - started)
            else:
                await others(scope, receive, _counting(service, send))
        except RefusedError as refusal:
            is_rest = (not is_read and is_large(headers)) or refusal.status == 408
            closes = is_rest or b"upgrade" in headers
            await refuse(service, send, refusal, receive if closes else None)
        except GoneError:
            service.metrics.requests.labels("gone").inc()
        except asyncio.CancelledError:
            await refuse(service, send, ENDED)
        except Exception as error:
            service.report_once(f"{scope['method']} {scope['path']}: {error!r}")
            await refuse(service, send, FAULT)

    return app


def _others(service: Service) -> Starlette:
    """The routes that are asked seldom."""

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        if service.is_ending:
            raise RefusedError(503, "the server is ending")
        service.require_policy()
        return PlainTextResponse("ok\n")

    async def version(request: Request) -> Response:
        return JSONResponse(about.describe(service.require_policy().loaded))

    async def example(request: Request) -> Response:
        return JSONResponse(about.example(service.require_policy().loaded))

    async def metrics(request: Request) -> Response:
        content = generate_latest(service.metrics.registry)
        return Response(content, headers={"content-type": CONTENT_TYPE_LATEST})

    async def open_session(request: Request) -> Response:
        service.require_policy()
        return JSONResponse({"session": service.sessions.open()}, 201)

    async def close_session(request: Request) -> Response:
        service.sessions.close(request.path_params["name"])
        return Response(status_code=204)

    async def act(request: Request) -> Response:
        raise AssertionError("is answered before")

    routes = [
        Route("/act", act, methods=["POST"]),
        Route("/sessions", open_session, methods=["POST"]),
        Route("/sessions/{name}", close_session, methods=["DELETE"]),
        *(Route(f"/{f.__name__}", f) for f in (healthz, readyz, version, example, metrics)),
    ]
    handlers: Any = {HTTPException: _unknown, RefusedError: _refused}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _refused(request: Request, error: RefusedError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body, error.status, headers, media_type="application/json")


def _unknown(request: Request, error: HTTPException) -> Response:
    """The answer where there is no such path, or it takes another method."""
    if error.status_code == 405:
        takes = (error.headers or {}).get("Allow", "")
        return _refused(request, RefusedError(405, f"method: this path takes {takes}", "method"))
    words = (
        "path: there is no such path; there are POST /act, POST /sessions, DELETE /sessions/ID, "
        "and GET /healthz, /readyz, /version, /example and /metrics"
    )
    return _refused(request, RefusedError(404, words, "path"))


def _counting(service: Service, send: Send) -> Send:
    """`send` that counts answers, and closes connections of a server that ends."""

    async def counted(message: Any) -> None:
        if message["type"] == "http.response.start":
            service.metrics.requests.labels(message["status"]).inc()
            if service.is_ending:
                headers = [*message["headers"], (b"connection", b"close")]
                message = message | {"headers": headers}
        await send(message)

    return counted
