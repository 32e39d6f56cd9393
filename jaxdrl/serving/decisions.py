"""What a version of a policy decides about observations as a caller gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdrl.core.trees import without
from jaxdrl.serving.compiled_policy import CompiledPolicy
from jaxdrl.serving.observations import Rows, to_rows
from jaxdrl.serving.source import Loaded, Version


class Decision(NamedTuple):
    """What a policy in use answers.

    Attributes:
      action: of the observation, or `[N, ...]` of a batch.
      version: of the policy that gave it.
      carry: recurrent state of each row after it, `()` without memory.
    """

    action: np.ndarray
    version: Version
    carry: Any = ()


class LastStep(NamedTuple):
    """The last step of somebody who acts step after step.

    Attributes:
      policy: that decided, None before the first step.
      num: rows.
      carry: recurrent state of each row after it.
    """

    policy: CompiledPolicy | None = None
    num: int = 0
    carry: Any = ()


def rows_of(loaded: Loaded, obs: Any) -> Rows:
    """Observations as rows of what a policy takes; what decides no action is left out.

    Raises:
      ConfigError: naming what is wrong with them.
    """
    unread = loaded.policy.function.unread.obs
    if unread and isinstance(obs, Mapping):
        obs = without(obs, unread)
    return to_rows(loaded.space, loaded.policy.dtypes, obs)


def act(loaded: Loaded, obs: Any, carry: Any, episode_start: np.ndarray) -> Decision:
    """What a version of a policy does on rows from `rows_of`."""
    action, after = loaded.policy.act(loaded.part, obs, carry, episode_start)
    return Decision(action, loaded.version, after)


def begin_step(
    last: LastStep, policy: CompiledPolicy, num: int, episode_start: np.ndarray
) -> tuple[np.ndarray, Any] | None:
    """`(episode_start, carry)` with which the next step is taken.

    Episodes begin in all rows with the first step, and with that of a policy of another run. None
    if the number of rows changes within episodes.

    Args:
      last: the step before.
      policy: that decides now.
      num: rows of this step.
      episode_start: bool `[num]`: where the caller begins an episode.
    """
    if policy is not last.policy:
        return np.ones(num, bool), policy.initial_carry(num)
    if num == last.num:
        return episode_start, last.carry
    return (episode_start, policy.initial_carry(num)) if episode_start.all() else None
