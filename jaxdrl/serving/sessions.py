"""Sessions of clients: the recurrent state of a policy for each of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jaxdrl.serving.decisions import LastStep
from jaxdrl.serving.limits import Limits
from jaxdrl.serving.refusals import RefusedError


@dataclass
class Session:
    """A client that plays one episode after another, alone or in several rows side by side.

    Attributes:
      used_at: when it last asked.
      turn: makes requests wait for the answers of those before them.
      num_rows: that count towards those of the server.
      last: the last step that was answered.
    """

    used_at: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    num_rows: int = 1
    last: LastStep = field(default_factory=LastStep)


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
        """Counts `num` rows for a session from now on, and at least one.

        Raises:
          RefusedError: if they are too many.
        """
        more = max(num, 1) - session.num_rows
        self._require_room(more)
        self.num_rows += more
        session.num_rows += more

    def close(self, name: str) -> None:
        """Forgets a session.

        Raises:
          RefusedError: if there is none.
        """
        session = self.find(name)
        del self._sessions[name]
        self.num_rows -= session.num_rows

    def forget_idle(self) -> None:
        """Forgets the sessions that have not been used for a while."""
        oldest = self._now() - self._limits.session_seconds
        while self._sessions:
            name, session = next(iter(self._sessions.items()))
            if session.used_at >= oldest:
                return
            del self._sessions[name]
            self.num_rows -= session.num_rows

    def _require_room(self, num: int) -> None:
        most = self._limits.max_sessions
        if num > 0 and self.num_rows + num > most:
            words = (
                f"session: there are as many as this server takes ({most}); DELETE /sessions/ID "
                f"ends one, and {self._limits.session_seconds:g} s without a request do"
            )
            raise RefusedError(429, words, "session")
