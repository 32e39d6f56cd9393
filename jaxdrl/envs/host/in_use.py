"""Copies of an environment that one thread uses and another one may end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class InUse:
    """Lets `end` run once: at once if nothing uses the copies, otherwise when the call has ended.

    Args:
      name: of the environment, for messages.
      end: frees the copies.
      interrupt: makes a call that is under way return soon; is called by whoever closes.
    """

    def __init__(
        self, name: str, end: Callable[[], None], interrupt: Callable[[], None] = lambda: None
    ) -> None:
        self._name, self._end, self._interrupt = name, end, interrupt
        self._lock = threading.Lock()
        self._has_ended = False
        self.is_closed = False

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Surrounds a use of the copies.

        Raises:
          RuntimeError: if they are closed.
        """
        if self.is_closed:
            raise RuntimeError(f"{self._name}: its copies are closed")
        try:
            with self._lock:
                yield
        finally:
            # After the lock has been given back: whoever closed meanwhile has not got it.
            if self.is_closed:
                self._try_to_end()

    def close(self) -> None:
        """Ends the copies; may be called again, and from any thread."""
        self.is_closed = True
        if not self._try_to_end():
            self._interrupt()

    def _try_to_end(self) -> bool:
        """Whether nothing used the copies, which have then ended."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._has_ended:
                self._has_ended = True
                self._end()
        finally:
            self._lock.release()
        return True
