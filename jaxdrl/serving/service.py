"""What a server knows while it runs, and how it answers a question for an action."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxdrl.errors import ConfigError
from jaxdrl.serving import bodies
from jaxdrl.serving.batcher import Batcher
from jaxdrl.serving.bodies import Headers, Kind, Question
from jaxdrl.serving.decisions import Decision, LastStep, begin_step, rows_of
from jaxdrl.serving.followed_policy import FollowedPolicy
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.observations import Rows
from jaxdrl.serving.refusals import RefusedError, unfit
from jaxdrl.serving.server_metrics import ServerMetrics, make_metrics
from jaxdrl.serving.sessions import Sessions
from jaxdrl.serving.source import Loaded

MAX_SAID = 1000

NEW = "new"
"""The id with which a question opens a session of its own."""


@dataclass
class Service:
    """A server's state; it belongs to the event loop.

    Attributes:
      limits: of what it takes.
      token: that clients must send, None without one.
      report: says what the operator should know.
      metrics: what was counted.
      sessions: of its clients.
      policy: None until the first version is there.
      batcher: of the policy.
      num_bytes: in the bodies that are arriving.
      is_ending: whether connections end with the next answer.
      said: what was reported once.
    """

    limits: Limits
    token: bytes | None
    report: Callable[[str], Any]
    metrics: ServerMetrics
    sessions: Sessions
    batcher: Batcher
    policy: FollowedPolicy | None = None
    num_bytes: int = 0
    is_ending: bool = False
    said: set[str] = field(default_factory=set)

    def report_once(self, words: str) -> None:
        """Reports what may happen with each request; a bounded number of different sentences."""
        if words not in self.said and len(self.said) < MAX_SAID:
            self.said.add(words)
            self.report(words)

    def require_policy(self) -> FollowedPolicy:
        """The policy.

        Raises:
          RefusedError: if there is none yet.
        """
        if self.policy is None:
            words = "no policy is loaded yet; /readyz says when one is"
            raise RefusedError(503, words, None, ((b"retry-after", b"1"),))
        return self.policy


class Answer(NamedTuple):
    """What a client is told.

    Attributes:
      headers: of the answer.
      body: of the answer.
      num: actions in it.
    """

    headers: list[tuple[bytes, bytes]]
    body: bytes
    num: int


def make_service(
    loop: asyncio.AbstractEventLoop, limits: Limits, token: bytes | None, report: Callable
) -> Service:
    """A service without a policy yet."""
    metrics = make_metrics()
    batcher = Batcher(loop, limits.max_rows, limits.max_rows_waiting, metrics.batch_rows.observe)
    sessions = Sessions(limits)
    metrics.sessions.set_function(lambda: len(sessions))
    return Service(limits, token, report, metrics, sessions, batcher)


async def answer(service: Service, kind: Kind, headers: Headers, body: bytes) -> Answer:
    """Answers a question for actions.

    Args:
      service: the server.
      kind: of the body, and of the answer.
      headers: of the request.
      body: of the request.

    Raises:
      RefusedError: naming what is wrong with it.
    """
    loaded = service.require_policy().loaded
    if not body:
        raise RefusedError(400, 'body: is empty; send {"obs": [...]}', "body")
    question = kind.read(body, headers)
    rows, start = _rows_in(loaded, question, service.limits)
    found, opened = await _decide(service, question.session, loaded, rows, start)
    action, update = found.action, found.version.update
    named = [(b"content-type", kind.name), (bodies.UPDATE, b"%d" % update)]
    if opened is not None:
        named.append((bodies.SESSION, opened.encode()))
    written = kind.write(action[0] if rows.is_single else action, update, opened)
    return Answer(named, written, rows.num)


def _rows_in(loaded: Loaded, question: Question, limits: Limits) -> tuple[Rows, np.ndarray]:
    """`(rows, where an episode begins)` of a question."""
    try:
        rows = rows_of(loaded, question.obs)
    except ConfigError as error:
        raise unfit(error) from None
    if rows.num > limits.max_rows:
        words = f"obs: has {rows.num} observations; this server takes {limits.max_rows} at once"
        raise RefusedError(413, words, "obs")
    start = question.episode_start
    if isinstance(start, bool):
        return rows, np.full(rows.num, start)
    is_list = isinstance(start, list) and all(isinstance(one, bool) for one in start)
    if not is_list or len(start) != rows.num:
        words = f"episode_start: must be true or false, or a list of them for {rows.num} rows"
        raise RefusedError(422, words, "episode_start")
    return rows, np.array(start, bool)


async def _decide(
    service: Service, name: Any, loaded: Loaded, rows: Rows, start: np.ndarray
) -> tuple[Decision, str | None]:
    """`(what the policy decides, the id of a session that was opened for it)`."""
    if name == NEW:
        opened = service.sessions.open()
        try:
            return await _step(service, opened, loaded, rows, start), opened
        except BaseException:
            with contextlib.suppress(RefusedError):  # it may be forgotten already
                service.sessions.close(opened)  # its id is never told
            raise
    if name is not None:
        return await _step(service, name, loaded, rows, start), None
    if loaded.policy.function.has_memory:
        words = (
            "session: this policy has memory, which needs a session: POST /sessions gives an id to "
            'send along, and "session": "new" opens one with the first observation'
        )
        raise RefusedError(422, words, "session")
    return await service.batcher.ask(loaded, rows.obs, rows.num, (), start), None


async def _step(
    service: Service, name: Any, loaded: Loaded, rows: Rows, start: np.ndarray
) -> Decision:
    """What the policy decides in a session, after the questions before it."""
    sessions = service.sessions
    async with sessions.find(name).turn:
        session = sessions.find(name)  # it may have ended meanwhile
        begun = begin_step(session.last, loaded.policy, rows.num, start)
        if begun is None:
            words = (
                f"obs: has {rows.num} rows, and the session has {session.last.num}; begin an "
                'episode in all of them with "episode_start": true, or open another session'
            )
            raise RefusedError(422, words, "obs")
        sessions.resize(session, rows.num)
        start, carry = begun
        found = await service.batcher.ask(loaded, rows.obs, rows.num, carry, start)
        session.last = LastStep(loaded.policy, rows.num, found.carry)
        return found
