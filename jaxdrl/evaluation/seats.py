"""Several policies in one environment: who plays which agent, and players that act at random.

In episode n the first policy plays agent `n % A`, so that each seat is taken equally often; the
others follow around the table, and the last one takes all seats that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core.spaces import Space
from jaxdrl.core.trees import match_rank
from jaxdrl.core.types import Policy
from jaxdrl.envs.protocol import random_allowed

MAX_PLAYERS = 16
"""How many combinations of players are kept, so that each keeps its compiled program."""


def seat_of(episode: jax.Array, num_agents: int) -> jax.Array:
    """The agent that the first policy plays in an episode."""
    return episode % num_agents


@lru_cache(maxsize=MAX_PLAYERS)
def seated(policies: tuple[Policy, ...], num_agents: int) -> Policy:
    """One policy for all rows `[N * A, ...]`, which takes a tuple with the learner of each policy.

    Row `(n, a)` is played by the policy `min((a - n) mod A, number of policies - 1)`.
    """

    def initial_carry(num_rows: int) -> Any:
        return tuple(policy.initial_carry(num_rows) for policy in policies)

    def act(
        learner: Any,
        carry: Any,
        obs: Any,
        episode_start: jax.Array,
        key: jax.Array,
        *,
        greedy: bool = False,
    ) -> tuple[Any, Any]:
        keys = jax.random.split(key, len(policies))
        actions, carries = [], []
        for i, policy in enumerate(policies):
            action, after = policy.act(
                learner[i], carry[i], obs, episode_start, keys[i], greedy=greedy
            )
            actions.append(action)
            carries.append(after)
        rows = jnp.arange(episode_start.shape[0], dtype=jnp.int32)
        place = (rows % num_agents - rows // num_agents) % num_agents
        chosen = actions[-1]
        for i, action in enumerate(actions[:-1]):
            chosen = jnp.where(match_rank(place == i, action), action, chosen)
        return chosen, tuple(carries)

    return Policy(initial_carry, act)


@lru_cache(maxsize=MAX_PLAYERS)
def random_policy(action_space: Space, action_mask: Callable[[Any], jax.Array] | None) -> Policy:
    """Draws uniformly from the actions that are allowed, even if `greedy`."""

    def act(
        learner: Any,
        carry: Any,
        obs: Any,
        episode_start: jax.Array,
        key: jax.Array,
        *,
        greedy: bool = False,
    ) -> tuple[Any, Any]:
        del learner, greedy
        keys = jax.random.split(key, episode_start.shape[0])

        def of_row(key: jax.Array, obs: Any) -> jax.Array:
            return random_allowed(action_space, action_mask, key, obs)[0]

        return jax.vmap(of_row)(keys, obs), carry

    return Policy(lambda num_rows: (), act)


@lru_cache(maxsize=MAX_PLAYERS)
def against_random(
    policy: Policy,
    action_space: Space,
    action_mask: Callable[[Any], jax.Array] | None,
    num_agents: int,
) -> Policy:
    """`policy` at one seat and random players at all others; it takes the learner of `policy`."""
    table = seated((policy, random_policy(action_space, action_mask)), num_agents)

    def act(learner: Any, *args: Any, **how: Any) -> tuple[Any, Any]:
        return table.act((learner, ()), *args, **how)

    return Policy(table.initial_carry, act)


@lru_cache(maxsize=MAX_PLAYERS)
def opened_at_random(table: Policy, random: Policy) -> Policy:
    """`table`, but while a game opens every row moves as `random` does.

    It takes the pair of a bool, whether the game is still opening, and the learner of `table`,
    whose memory follows the opening as well.
    """

    def act(
        learner: Any,
        carry: Any,
        obs: Any,
        episode_start: jax.Array,
        key: jax.Array,
        *,
        greedy: bool = False,
    ) -> tuple[Any, Any]:
        is_opening, learners = learner
        table_key, random_key = jax.random.split(key)
        action, carry = table.act(learners, carry, obs, episode_start, table_key, greedy=greedy)
        drawn, _ = random.act((), (), obs, episode_start, random_key)
        return jnp.where(is_opening, drawn, action), carry

    return Policy(table.initial_carry, act)
