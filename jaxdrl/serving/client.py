"""Who asks a policy in use for actions step after step, with a recurrent state of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdrl.checks import require
from jaxdrl.serving.compiled_policy import CompiledPolicy
from jaxdrl.serving.decisions import act, rows_of
from jaxdrl.serving.source import Loaded, Version


class Client:
    """Somebody who acts step after step, alone or with several rows side by side.

    It is for one thread.

    Args:
      loaded: gives the policy in use.

    Attributes:
      version: of the policy that gave the last action, None before the first.
      carry: recurrent state of each row, `()` without memory.
    """

    def __init__(self, loaded: Callable[[], Loaded]) -> None:
        self.version: Version | None = None
        self._loaded = loaded
        self._policy: CompiledPolicy | None = None
        self.carry: Any = ()
        self._num = 0

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
        if loaded.policy is not self._policy:
            start = np.ones(rows.num, bool)
        if rows.num != self._num or loaded.policy is not self._policy:
            works = f"has {self._num} rows until then; call reset() to begin anew"
            require(bool(start.all()), "obs", f"{rows.num} rows", works)
            self.carry = loaded.policy.initial_carry(rows.num)
        found = act(loaded, rows.obs, self.carry, start)
        self._policy, self._num = loaded.policy, rows.num
        self.carry, self.version = found.carry, found.version
        return found.action[0] if rows.is_single else found.action

    def reset(self) -> None:
        """Forgets the recurrent state: the next call begins an episode."""
        self._policy = None
