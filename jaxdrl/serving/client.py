"""Who asks a policy in use for actions step after step, with a recurrent state of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdrl.checks import require
from jaxdrl.errors import ConfigError
from jaxdrl.serving.decisions import LastStep, act, begin_step, rows_of
from jaxdrl.serving.source import Loaded, Version


class Client:
    """Somebody who acts step after step, alone or with several rows side by side.

    It is for one thread.

    Args:
      loaded: gives the policy in use.

    Attributes:
      version: of the policy that gave the last action, None before the first.
    """

    def __init__(self, loaded: Callable[[], Loaded]) -> None:
        self.version: Version | None = None
        self._loaded, self._last = loaded, LastStep()

    @property
    def carry(self) -> Any:
        """Recurrent state of each row after the last action, `()` without memory."""
        return self._last.carry

    def __call__(self, obs: Any, episode_start: Any = False) -> np.ndarray:
        """The action of one observation or a batch.

        The first call begins an episode, and so does the first one of a run whose network is
        another than before.

        Args:
          obs: an observation, or one of each row.
          episode_start: whether an episode begins with it, which resets the recurrent state; of all
            rows or bool `[N]`.

        Raises:
          ConfigError: as a call of the policy; and if the number of rows changes within episodes.
        """
        loaded = self._loaded()
        rows, start = rows_of(loaded, obs), np.asarray(episode_start)
        works = f"must be true or false, or an array of them for {rows.num} rows"
        fits = start.dtype == bool and start.shape in ((), (rows.num,))
        require(fits, "episode_start", episode_start, works)
        start = np.broadcast_to(start, (rows.num,))
        begun = begin_step(self._last, loaded.policy, rows.num, start)
        if begun is None:
            raise ConfigError(
                f"obs: has {rows.num} rows, and this client has {self._last.num}; call reset(), or "
                "begin an episode in all of them with episode_start=True"
            )
        start, carry = begun
        found = act(loaded, rows.obs, carry, start)
        self._last = LastStep(loaded.policy, rows.num, found.carry)
        self.version = found.version
        return found.action[0] if rows.is_single else found.action

    def reset(self) -> None:
        """Forgets the recurrent state: the next call begins an episode."""
        self._last = LastStep()
