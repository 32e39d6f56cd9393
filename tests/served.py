"""Servers in a thread of the tests, and clients that ask them or their application."""

import asyncio
import contextlib
import http.client
import io
import json
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from jaxdrl.serving.app import make_app
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.server import What, listener, serve, url_of
from jaxdrl.serving.service import make_service
from jaxdrl.serving.source import Version

JSON = {"content-type": "application/json"}
NPY = {"content-type": "application/x-npy"}


class Reply(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body, parse_constant=AssertionError)

    @property
    def array(self):
        return np.load(io.BytesIO(self.body), allow_pickle=False)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def ask(url, method="GET", path="/healthz", body=None, headers=JSON, timeout=20):
    """Sends one request over a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    with contextlib.closing(connection):
        sent = json.dumps(body).encode() if isinstance(body, dict | list) else body
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())


def act(url, body, headers=JSON):
    return ask(url, "POST", "/act", body, headers)


def is_ready(url):
    with contextlib.suppress(OSError):  # of a server that has ended
        return ask(url, path="/readyz").status == 200
    return False


@contextlib.contextmanager
def served(run_dir, token=None, said=None, limits=Limits(), **what):  # noqa: B008
    """The address of a server in a thread, which ends in good order."""
    is_to_end, failures = threading.Event(), []

    def run():
        try:
            serve(what, sock, token, (said if said is not None else []).append, is_to_end.is_set)
        except BaseException as error:
            failures.append(error)

    what = What(run_dir, port=0, limits=limits, **{"seconds": 0.05} | what)
    with listener("127.0.0.1", 0, token) as sock:
        url, thread = url_of(sock), threading.Thread(target=run)
        thread.start()
        try:
            while thread.is_alive() and not is_ready(url):
                is_to_end.wait(0.02)
            if thread.is_alive():
                yield url
        finally:
            is_to_end.set()
            thread.join(20)
            assert not thread.is_alive()
    if failures:
        raise failures[0]


class Fixed(NamedTuple):
    """A policy in use that stays as it is."""

    loaded: object


def fixed(loaded, update=7):
    return Fixed(
        loaded.__class__(
            loaded.source,
            loaded.candidate,
            loaded.policy,
            loaded.space,
            loaded.part,
            Version(update, 0, None, "a run", None, None, 0.0),
        )
    )


@contextlib.asynccontextmanager
async def application(policy, limits=Limits(), report=AssertionError):  # noqa: B008
    """`(service, asks the application without a socket)`."""
    service = make_service(asyncio.get_running_loop(), limits, None, report)
    service.policy, app = policy, make_app(service)

    async def send_request(method, path, body=b"", headers=JSON):
        sent, received = [], [{"type": "http.request", "body": body, "more_body": False}]
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        pairs.append((b"content-length", b"%d" % len(body)))
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        scope |= {"query_string": b"", "raw_path": path.encode(), "root_path": ""}

        async def receive():
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], named, b"".join(m.get("body", b"") for m in sent[1:]))

    try:
        yield service, send_request
    finally:
        service.batcher.close()
