"""Tiny environments of several agents with known answers."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.core.spaces import Box, Dict, Discrete
from jaxdrl.envs.protocol import Environment

NO = jnp.zeros((), jnp.bool)


def team(num_steps=5, dies_after=2, num_agents=3):
    """Agents that act for themselves; the last one is dead after `dies_after` steps.

    obs is the agent and the time, both one-hot, whether it is alive, and a number that the reset
    draws. A living agent is paid 1 for the action `agent % 2`. Every episode is truncated after
    `num_steps`.
    """

    def observe(time, drawn):
        is_last = jnp.arange(num_agents) == num_agents - 1
        alive = ~is_last | (time < dies_after)
        of_all = jnp.concatenate([jax.nn.one_hot(time, num_steps + 1), drawn[None]])
        columns = [jnp.eye(num_agents), jnp.tile(of_all, (num_agents, 1)), alive[:, None]]
        return jnp.concatenate([x.astype(jnp.float32) for x in columns], axis=1), alive

    def reset(key, params):
        del params
        time, drawn = jnp.zeros((), jnp.int32), jax.random.normal(key)
        return observe(time, drawn)[0], (time, drawn)

    def step(key, env_state, action, params):
        del key, params
        time, drawn = env_state
        _, alive = observe(time, drawn)
        right = action == jnp.arange(num_agents) % 2
        time = time + 1
        obs, _ = observe(time, drawn)
        reward = (right & alive).astype(jnp.float32)
        return obs, (time, drawn), reward, NO, time >= num_steps, {}

    return Environment(
        "team",
        reset,
        step,
        Box(-jnp.inf, jnp.inf, (num_agents + num_steps + 3,)),
        Discrete(2),
        max_episode_steps=num_steps,
        num_agents=num_agents,
        active=lambda obs: obs[-1] > 0,
    )


def errands(num_agents=6, highest=20.0, *, has_state=True):
    """Each agent is told one of four actions and a price, and a single step pays the whole team.

    obs is a dictionary: `own`, the action, one-hot, and the price, and with `has_state` all prices
    as `world_state`. Every agent gets the mean over agents of the price, drawn below `highest`, and
    1 for the right action. Prices are most of the variance, and an agent knows its own alone.
    """
    num_actions = 4

    def observe(told, prices):
        own = jnp.concatenate([jax.nn.one_hot(told, num_actions), prices[:, None]], axis=1)
        state = jnp.broadcast_to(prices, (num_agents, num_agents))
        return {"own": own, "world_state": state} if has_state else {"own": own}

    def reset(key, params):
        del params
        keys = jax.random.split(key)
        told = jax.random.randint(keys[0], (num_agents,), 0, num_actions)
        prices = jax.random.uniform(keys[1], (num_agents,), maxval=highest)
        return observe(told, prices), (told, prices)

    def step(key, env_state, action, params):
        del key, params
        told, prices = env_state
        paid = prices + (action == told).astype(jnp.float32)
        reward = jnp.full((num_agents,), paid.mean())
        return observe(told, prices), env_state, reward, jnp.ones((), jnp.bool), NO, {}

    entries = {"own": Box(0.0, highest, (num_actions + 1,))}
    if has_state:
        entries["world_state"] = Box(0.0, highest, (num_agents,))
    return Environment(
        "errands",
        reset,
        step,
        Dict(entries),
        Discrete(num_actions),
        max_episode_steps=1,
        num_agents=num_agents,
    )


def last_move_wins(num_moves=3, num_agents=2):
    """Agents move in turn; after `num_moves` whoever moved last wins, and the others lose.

    obs is whether the agent is on turn, and the time, one-hot. Whoever is not on turn may only do
    action 0. The winner gets 1 and every other agent -1, at the last step.
    """

    def observe(time):
        on_turn = jnp.arange(num_agents) == time % num_agents
        times = jnp.tile(jax.nn.one_hot(time, num_moves + 1), (num_agents, 1))
        return jnp.concatenate([on_turn[:, None].astype(jnp.float32), times], axis=1)

    def reset(key, params):
        del key, params
        time = jnp.zeros((), jnp.int32)
        return observe(time), time

    def step(key, time, action, params):
        del key, action, params
        is_over = time + 1 >= num_moves
        won = jnp.arange(num_agents) == time % num_agents
        reward = jnp.where(is_over, jnp.where(won, 1.0, -1.0), 0.0)
        return observe(time + 1), time + 1, reward, is_over, NO, {}

    return Environment(
        "last_move_wins",
        reset,
        step,
        Box(0.0, 1.0, (num_moves + 2,)),
        Discrete(2),
        max_episode_steps=num_moves,
        action_mask=lambda obs: jnp.stack([obs[0] >= 0, obs[0] > 0]),
        num_agents=num_agents,
        active=lambda obs: obs[0] > 0,
        is_competitive=True,
    )


@struct.dataclass
class PenniesState:
    """Steps since the reset, the number that the reset drew, and the last actions of all."""

    time: jax.Array
    draw: jax.Array
    actions: jax.Array


def pennies(num_steps, num_agents=2):
    """Agents show a coin each, `num_steps` times; then the episode terminates.

    The first agent gets 1 where its coin is that of the last agent, else -1, and all others get the
    opposite. obs is `[time / num_steps, draw, seat]` and the last coin of each agent, with a `draw`
    in [0, 1) of each reset.
    """

    def observe(state):
        num = state.actions.shape[0]
        common = [state.time.astype(jnp.float32) / num_steps, state.draw]
        seat = jnp.arange(num, dtype=jnp.float32)[:, None]
        coins = jnp.tile(state.actions.astype(jnp.float32), (num, 1))
        return jnp.concatenate([jnp.tile(jnp.stack(common), (num, 1)), seat, coins], axis=1)

    def reset(key, params):
        del params
        coins = jnp.zeros((num_agents,), jnp.int32)
        state = PenniesState(jnp.zeros((), jnp.int32), jax.random.uniform(key), coins)
        return observe(state), state

    def step(key, state, action, params):
        del key, params
        state = PenniesState(state.time + 1, state.draw, action)
        sign = jnp.where(jnp.arange(num_agents) == 0, jnp.float32(1.0), jnp.float32(-1.0))
        reward = jnp.where(action[0] == action[-1], sign, -sign)
        return observe(state), state, reward, state.time >= num_steps, NO, {}

    space = Box(0.0, float(num_agents), (3 + num_agents,))
    return Environment(
        "pennies",
        reset,
        step,
        space,
        Discrete(2),
        max_episode_steps=num_steps,
        num_agents=num_agents,
        is_competitive=True,
    )
