"""A tiny game whose outcome is known, and players of it."""

import jax
import jax.numpy as jnp

from jaxdrl.core.spaces import Box, Discrete
from jaxdrl.core.types import Policy
from jaxdrl.envs.protocol import Environment

HIGHEST = 4


def higher_number(num_agents=2, num_rounds=3, ties_go_to_first=False):
    """In each round every agent names a number from 0 to `HIGHEST`.

    The reward is 1 for whoever named a greater one than all others, or -1 for all who named less
    than another; with `ties_go_to_first`, agent 0 has named half a point more. obs is the agent and
    the round, both one-hot, and what it and the greatest of the others named last, from 0 to 1.
    """

    def observe(time, own, others):
        times = jnp.tile(jax.nn.one_hot(time, num_rounds + 1), (num_agents, 1))
        named = jnp.stack([own, others], axis=1) / HIGHEST
        return jnp.concatenate([jnp.eye(num_agents), times, named], axis=1).astype(jnp.float32)

    def of_others(numbers):
        """The greatest of the others, for each agent."""
        rows = jnp.tile(numbers, (num_agents, 1))
        return jnp.where(jnp.eye(num_agents, dtype=jnp.bool), -1.0, rows).max(axis=1)

    def reset(key, params):
        del key, params
        time, none = jnp.zeros((), jnp.int32), jnp.zeros(num_agents)
        return observe(time, none, none), time

    def step(key, time, action, params):
        del key, params
        own = action.astype(jnp.float32)
        bonus = jnp.where(jnp.arange(num_agents) == 0, 0.5 * ties_go_to_first, 0.0)
        reward = jnp.sign(own + bonus - of_others(own + bonus))
        is_over = time + 1 >= num_rounds
        obs = observe(time + 1, own, of_others(own))
        return obs, time + 1, reward, is_over, jnp.zeros_like(is_over), {}

    return Environment(
        "higher_number",
        reset,
        step,
        Box(0.0, 1.0, (num_agents + num_rounds + 3,)),
        Discrete(HIGHEST + 1),
        max_episode_steps=num_rounds,
        num_agents=num_agents,
        is_competitive=True,
    )


def always(number):
    """A player that always names the same number."""

    def act(learner, carry, obs, episode_start, key, *, greedy=False):
        del learner, obs, key, greedy
        return jnp.full(episode_start.shape, number, jnp.int32), carry

    return Policy(lambda num_rows: (), act)


def as_told(learner, carry, obs, episode_start, key, *, greedy=False):
    """Names the number that is its learner, or a random one unless `greedy`."""
    del obs
    drawn = jax.random.randint(key, episode_start.shape, 0, HIGHEST + 1)
    told = jnp.broadcast_to(learner, episode_start.shape).astype(jnp.int32)
    return jnp.where(greedy, told, drawn), carry


AS_TOLD = Policy(lambda num_rows: (), as_told)


def count(learner, carry, obs, episode_start, key, *, greedy=False):
    """Names 0, 1, 2 and so on from the start of an episode, by its memory."""
    del learner, obs, key, greedy
    carry = jnp.where(episode_start, 0, carry + 1)
    return carry, carry


COUNTS = Policy(lambda num_rows: jnp.full((num_rows,), 9, jnp.int32), count)
