"""`jaxdrl serve`: answers over HTTP with the newest policy of a run."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from jaxdrl.checks import Index, NonNegative, Positive, check_fields, require
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import labelled, make_console
from jaxdrl.runs.stopping import Signals
from jaxdrl.serving.about import command
from jaxdrl.serving.access import read_token, resolve
from jaxdrl.serving.app import make_app
from jaxdrl.serving.connections import Connections
from jaxdrl.serving.follow import follow
from jaxdrl.serving.followed_policy import FollowedPolicy
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.service import Service, make_service
from jaxdrl.serving.source import Version

KEEP_ALIVE = 75
"""Seconds for which a connection stays open between two requests."""

TICK = 0.05
"""Seconds between two looks at what the server waits for."""

BACKLOG = 2048


@dataclass(frozen=True)
class What:
    """What is to be served, and where. Raises ConfigError for values that cannot work.

    Attributes:
      run_dir: directory of the run.
      host: address to listen on.
      port: of it; 0 takes a free one.
      checkpoint: None for the last valid one, "best", or the update of one.
      member: number of a member of a sweep; None: the best.
      setting: likewise of a setting.
      wait: seconds to wait for the first checkpoint.
      seconds: between two looks for a new one.
      limits: of what clients may ask.
    """

    run_dir: Path
    host: str = "127.0.0.1"
    port: Index = 8000
    checkpoint: int | str | None = None
    member: Index | None = None
    setting: Index | None = None
    wait: NonNegative = 0.0
    seconds: Positive = 1.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_fields(self, given=("limits",))
        require(self.port <= 65535, "port", self.port, "must be from 0 to 65535")


def main(what: What) -> None:
    """Serves until a signal asks it to end, and says on the terminal what it does.

    Raises:
      ConfigError: if the address cannot be used, or there is no policy to serve.
    """
    token = read_token(os.environ)
    say = partial(make_console().print, soft_wrap=True)
    with listener(what.host, what.port, token) as sock, Signals() as signals, signals.held():
        serve(what, sock, token, say, lambda: signals.name is not None)


@contextlib.contextmanager
def listener(host: str, port: int, token: bytes | None) -> Iterator[socket.socket]:
    """A socket that is bound to an address.

    Raises:
      ConfigError: if it cannot be.
    """
    family, address = resolve(host, token)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen(BACKLOG)
        except OSError as error:
            raise _unusable(host, port, error) from None
        yield sock
    finally:
        sock.close()


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    """Why a socket cannot be bound to an address."""
    if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
        return ConfigError(
            f"host = {host!r}: is no address of this machine ({error.strerror}); 127.0.0.1 is one, "
            "and 0.0.0.0 means all of them"
        )
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return ConfigError(
        f"port = {port}: {why} on {host}; name another with --port, or 0 for a free one"
    )


def url_of(sock: socket.socket) -> str:
    """The address of a listening socket, as a client on this machine writes it."""
    address, port = sock.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def serve(
    what: What,
    sock: socket.socket,
    token: bytes | None,
    say: Callable[[Any], Any],
    is_to_end: Callable[[], bool],
) -> None:
    """Serves on a socket until it is to end.

    Args:
      what: is served.
      sock: bound to the address.
      token: that clients must send, None without one.
      say: prints a line for the operator.
      is_to_end: whether the server is to end.

    Raises:
      ConfigError: if there is no policy to serve.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(what, sock, token, say, is_to_end))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop: uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(
    what: What,
    sock: socket.socket,
    token: bytes | None,
    say: Callable[[Any], Any],
    is_to_end: Callable[[], bool],
) -> None:
    def warn(words: str) -> None:
        say(labelled("warning:", words))

    loop = asyncio.get_running_loop()
    service = make_service(loop, what.limits, token, warn)
    count = service.metrics.requests.labels
    connections = Connections(what.limits, lambda status: count(status).inc())
    service.metrics.connections.set_function(lambda: len(connections.open))
    server = _server(service, connections, what.limits)
    running = loop.create_task(server.serve(sockets=[sock]))
    url = url_of(sock)
    if what.wait:
        say(f"{url} is not ready: waits for a checkpoint of {what.run_dir}")
    loading = _Loading(what, service, say)
    loading.start()
    try:
        while not is_to_end() and not running.done():
            if loading.failure is not None:
                raise loading.failure
            if service.policy is None and loading.policy is not None:
                service.policy = loading.policy
                _greet(service, url, say)
            try:
                connections.close_slow()
            except Exception as error:  # one connection ends no server
                service.report_once(f"connections: {error!r}")
            await asyncio.sleep(TICK)
        await _drain(server, service, connections)
    finally:
        server.should_exit = True
        await running
        service.batcher.close()
        if loading.policy is not None:
            loading.policy.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the command."""
        yield


def _server(service: Service, connections: Connections, limits: Limits) -> _Server:
    config = uvicorn.Config(
        make_app(service),
        http=connections.protocol(),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(limits.grace)),
        backlog=BACKLOG,
    )
    return _Server(config)


async def _drain(server: _Server, service: Service, connections: Connections) -> None:
    """Takes no more connections, and ends the open ones with their next answer.

    A client that asks all the time is answered on its open connection and told that it ends, so
    that no request is lost; one that does not ask is not waited for.
    """
    service.is_ending = True
    for listening in getattr(server, "servers", []):  # none before it has started
        listening.close()
    deadline = asyncio.get_running_loop().time() + min(0.5, service.limits.grace)
    while connections.open and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(TICK)


class _Loading:
    """Loads the first version in a thread, while the server says that it is not ready.

    Attributes:
      policy: once it is there.
      failure: why there is none.
    """

    def __init__(self, what: What, service: Service, say: Callable[[str], Any]) -> None:
        self.policy: FollowedPolicy | None = None
        self.failure: BaseException | None = None
        self._what, self._service, self._say = what, service, say

    def start(self) -> None:
        """Begins to load."""
        threading.Thread(target=self._load, name="jaxdrl-load", daemon=True).start()

    def _load(self) -> None:
        what = self._what
        try:
            self.policy = follow(
                what.run_dir,
                checkpoint=what.checkpoint,
                member=what.member,
                setting=what.setting,
                seconds=what.seconds,
                wait=what.wait,
                on_change=self._on_change,
                on_refusal=self._on_refusal,
            )
        except BaseException as error:
            self.failure = error

    def _on_change(self, version: Version) -> None:
        self._service.metrics.versions.inc()
        self._service.metrics.update.set(version.update)
        if self.policy is not None:
            self._say(f"{_words(version)} is in use")

    def _on_refusal(self, words: str) -> None:
        self._service.metrics.refused.inc()
        self._service.report(words)


def _greet(service: Service, url: str, say: Callable[[str], Any]) -> None:
    """Says what is served where, and how to try it."""
    loaded = service.require_policy().loaded
    env, run_dir = loaded.source.stored.experiment.env, loaded.version.run_dir
    say(f"{url} serves {env} of {run_dir}; Ctrl-C ends it")
    say(f"{_words(loaded.version)} is in use")
    say(f"try: {command(loaded, url, service.token is not None)}")


def _words(version: Version) -> str:
    score = "" if version.mean_return is None else f", mean return {version.mean_return:.4g}"
    return f"update {version.update} ({version.env_steps:,} environment steps{score})"
