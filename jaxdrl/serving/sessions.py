"""Sessions of clients: the recurrent state of a policy for each of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdrl.serving.compiled_policy import CompiledPolicy
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.refusals import RefusedError


@dataclass
class Session:
    """A client that plays one episode after another, alone or in several rows side by side.

    Attributes:
      used_at: when it last asked.
      turn: makes requests wait for the answers of those before them.
      policy: that gave the last action, None before the first.
      num: rows.
      carry: recurrent state of each row.
    """

    used_at: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    policy: CompiledPolicy | None = None
    num: int = 0
    carry: Any = ()

    def begin(self, policy: CompiledPolicy, num: int, start: np.ndarray) -> np.ndarray:
        """Where a step of `num` rows begins an episode, given where its client says so.

        Raises:
          RefusedError: if the number of rows changes within episodes.
        """
        if policy is not self.policy:
            start = np.ones(num, bool)
        if policy is not self.policy or num != self.num:
            if not start.all():
                words = (
                    f"obs: has {num} rows, and the session has {self.num}; begin an episode in all "
                    'of them with "episode_start": true, or open another session'
                )
                raise RefusedError(422, words, "obs")
            self.carry = policy.initial_carry(num)
        return start


class Sessions:
    """The sessions of a server, those that asked least recently first.

    Args:
      limits: of the server.
      now: a clock.
    """

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._now = limits, now
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.num_rows = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> str:
        """Makes a session; its id cannot be guessed.

        Raises:
          RefusedError: if there are too many.
        """
        self.forget_idle()
        self._require_room(1)
        name = secrets.token_urlsafe(24)
        self._sessions[name] = Session(self._now())
        self.num_rows += 1
        return name

    def find(self, name: Any) -> Session:
        """The session of an id, which is used now.

        Raises:
          RefusedError: if there is none.
        """
        self.forget_idle()
        if not isinstance(name, str):
            raise RefusedError(
                422, "session: must be a string, as POST /sessions gives it", "session"
            )
        session = self._sessions.get(name)
        if session is None:
            seconds = f"{self._limits.session_seconds:g}"
            words = f"session: is unknown, or was idle for {seconds} s; POST /sessions gives one"
            raise RefusedError(404, words, "session")
        session.used_at = self._now()
        self._sessions.move_to_end(name)
        return session

    def resize(self, session: Session, num: int) -> None:
        """Notes that a session has `num` rows from now on.

        Raises:
          RefusedError: if they are too many.
        """
        more = max(num, 1) - max(session.num, 1)
        self._require_room(more)
        self.num_rows += more
        session.num = num

    def close(self, name: str) -> None:
        """Forgets a session.

        Raises:
          RefusedError: if there is none.
        """
        session = self.find(name)
        del self._sessions[name]
        self.num_rows -= max(session.num, 1)

    def forget_idle(self) -> None:
        """Forgets the sessions that have not been used for a while."""
        oldest = self._now() - self._limits.session_seconds
        while self._sessions:
            name, session = next(iter(self._sessions.items()))
            if session.used_at >= oldest:
                return
            del self._sessions[name]
            self.num_rows -= max(session.num, 1)

    def _require_room(self, num: int) -> None:
        most = self._limits.max_sessions
        if num > 0 and self.num_rows + num > most:
            words = (
                f"session: there are as many as this server takes ({most}); DELETE /sessions/ID "
                f"ends one, and {self._limits.session_seconds:g} s without a request do"
            )
            raise RefusedError(429, words, "session")
