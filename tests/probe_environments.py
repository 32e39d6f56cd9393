"""Tiny environments with known answers: what fails on one of them says what is broken.

Each answer is stated with the environment; V is the value of the best policy unless it says so.
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete
from jaxdrl.envs.protocol import Environment

BINARY = Discrete(2)


def constant_reward(num_steps, ends, action_space=BINARY):
    """Reward 1 at every step, and an end after `num_steps` that `ends` calls the kind of.

    obs is the time modulo `num_steps`, one-hot, so that the final observation of a truncated
    episode is one that the critic has seen. With `ends="terminated"`, V at time t is
    (1 - gamma^(num_steps - t)) / (1 - gamma): for gamma 0.9 and 5 steps 4.0951, 3.439, 2.71, 1.9
    and 1. With `ends="truncated"`, V is 1 / (1 - gamma) at every time: 10 for gamma 0.9.
    """
    assert ends in ("terminated", "truncated")

    def observe(time):
        return jax.nn.one_hot(time % num_steps, num_steps, dtype=jnp.float32)

    def reset(key, params):
        del key, params
        time = jnp.zeros((), jnp.int32)
        return observe(time), time

    def step(key, time, action, params):
        del key, action, params
        time = time + 1
        flags = {"terminated": jnp.zeros((), jnp.bool), "truncated": jnp.zeros((), jnp.bool)}
        flags[ends] = time >= num_steps
        reward = jnp.ones((), jnp.float32)
        return observe(time), time, reward, flags["terminated"], flags["truncated"], {}

    space = Box(0.0, 1.0, (num_steps,))
    return Environment(
        "constant_reward", reset, step, space, action_space, max_episode_steps=num_steps
    )


def bad_reward(at, for_ever=False):
    """Time is obs and reward; the reward is NaN `at` that step, or from it on; never ends."""
    return _clock(
        "bad_reward", lambda time: time, lambda time: (time >= at) if for_ever else (time == at)
    )


def bad_observation(at):
    """Time is obs and reward; obs is NaN `at` that step; never ends."""
    return _clock("bad_observation", lambda time: jnp.where(time == at, jnp.nan, time))


def sequence(numbers):
    """Every number of an array in turn, as obs and as the reward for leaving it; never ends."""

    def reset(key, params):
        del key, params
        time = jnp.zeros((), jnp.int32)
        return jnp.asarray(numbers)[time][None], time

    def step(key, time, action, params):
        del key, action, params
        number, no = jnp.asarray(numbers)[time], jnp.zeros((), jnp.bool)
        time = time + 1
        return jnp.asarray(numbers)[time][None], time, number, no, no, {}

    return Environment("sequence", reset, step, Box(-jnp.inf, jnp.inf, (1,)), BINARY)


def _clock(name, observe, is_bad=lambda time: time < 0):
    def as_obs(time):
        return observe(time.astype(jnp.float32))[None]

    def reset(key, params):
        del key, params
        time = jnp.zeros((), jnp.int32)
        return as_obs(time), time

    def step(key, time, action, params):
        del key, action, params
        time, no = time + 1, jnp.zeros((), jnp.bool)
        reward = jnp.where(is_bad(time), jnp.nan, time.astype(jnp.float32))
        return as_obs(time), time, reward, no, no, {}

    return Environment(name, reset, step, Box(0.0, 1e6, (1,)), BINARY)


def random_observation():
    """One step; obs is 1 or -1 at random and the reward equals it: V(obs) = obs."""
    return _one_step("random_observation", _sign, SIGN, BINARY, lambda obs, action: obs[0])


def delayed_reward():
    """Two steps, the reward 1 after the second; obs is 0, then 1: V(0) = gamma, V(1) = 1."""

    def reset(key, params):
        del key, params
        return jnp.zeros((1,), jnp.float32), jnp.zeros((), jnp.int32)

    def step(key, time, action, params):
        del key, action, params
        last = time == 1
        obs = jnp.ones((1,), jnp.float32)
        return obs, time + 1, last.astype(jnp.float32), last, jnp.zeros((), jnp.bool), {}

    space = Box(0.0, 1.0, (1,))
    return Environment("delayed_reward", reset, step, space, BINARY, max_episode_steps=2)


def action_reward():
    """One step; the reward is 1 for action 1 and -1 for action 0, obs is 0: V = 1."""

    def observe(key):
        del key
        return jnp.zeros((1,), jnp.float32)

    space = Box(0.0, 0.0, (1,))
    return _one_step("action_reward", observe, space, BINARY, lambda obs, a: _score(a == 1))


def observation_action_reward():
    """One step; obs is 1 or -1, right is action 1 for obs 1 and 0 for -1; reward 1 or -1: V = 1."""

    def reward(obs, action):
        return _score(action == (obs[0] > 0).astype(jnp.int32))

    return _one_step("observation_action_reward", _sign, SIGN, BINARY, reward)


def recall(num_steps):
    """`num_steps` steps; the first obs is 1 or -1, all others 0; the last action has to recall it.

    The last reward is 1 for action 1 after 1 and 0 after -1, else -1; all others are 0. V = 1 with
    memory, 0 without.
    """

    def reset(key, params):
        del params
        cue = _sign(key)
        return cue, (cue, jnp.zeros((), jnp.int32))

    def step(key, state, action, params):
        del key, params
        cue, time = state
        last = time == num_steps - 1
        reward = jnp.where(last, _score(action == (cue[0] > 0).astype(jnp.int32)), 0.0)
        return jnp.zeros_like(cue), (cue, time + 1), reward, last, jnp.zeros((), jnp.bool), {}

    return Environment("recall", reset, step, SIGN, BINARY, max_episode_steps=num_steps)


def masked(action_space, num_stuck=0):
    """Episodes of one step that allow a random part of the actions, which is obs.

    obs is a mask, 1 for the allowed ones of 4 actions, or of the 2 + 3 of `MultiDiscrete((2, 3))`;
    one at least of each component is. The reward is the action, or the sum of its components, and
    NaN for an action that is not allowed. Of 1,000 observations, `num_stuck` allow nothing.
    """
    sizes = action_space.nvec if isinstance(action_space, MultiDiscrete) else (action_space.n,)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def observe(key):
        mask_key, *keys = jax.random.split(key, 2 + len(sizes))
        mask = jax.random.bernoulli(mask_key, 0.5, (sum(sizes),))
        for start, size, one_key in zip(starts, sizes, keys, strict=False):
            mask = mask.at[start + jax.random.randint(one_key, (), 0, size)].set(True)
        stuck = jax.random.randint(keys[-1], (), 0, 1000) < num_stuck
        return jnp.where(stuck, False, mask).astype(jnp.float32)

    def reward(obs, action):
        parts = action if isinstance(action_space, MultiDiscrete) else action[None]
        chosen = parts + jnp.asarray(starts, jnp.int32)
        allowed = (obs[chosen] > 0).all() | (obs == 0).all()
        return jnp.where(allowed, parts.sum().astype(jnp.float32), jnp.nan)

    space = Box(0.0, 1.0, (sum(sizes),))
    env = _one_step("masked", observe, space, action_space, reward)
    return env._replace(action_mask=lambda obs: obs > 0)


def multi_discrete():
    """One step; actions `MultiDiscrete((2, 3))`; reward 1 if both components are right, else 0.

    obs is one-hot of 6: for k the right action is (k // 3, k % 3). V = 1.
    """

    def observe(key):
        return jax.nn.one_hot(jax.random.randint(key, (), 0, 6), 6, dtype=jnp.float32)

    def reward(obs, action):
        wanted = jnp.argmax(obs).astype(jnp.int32)
        right = (action[0] == wanted // 3) & (action[1] == wanted % 3)
        return right.astype(jnp.float32)

    space = Box(0.0, 1.0, (6,))
    return _one_step("multi_discrete", observe, space, MultiDiscrete((2, 3)), reward)


def continuous_target(low, high, shape):
    """One step; the reward is the sum of -(action - target)^2, NaN outside the bounds: V = 0.

    obs is 1 or -1; the target lies halfway from the middle of the bounds to the upper one for
    obs 1, to the lower one for obs -1. Arguments are those of `jaxdrl.spaces.Box`.
    """
    space = Box(low, high, shape)
    middle, half = (space.low + space.high) / 2, (space.high - space.low) / 2

    def reward(obs, action):
        error = action - (middle + jnp.broadcast_to(obs[0], shape) * half / 2)
        inside = jnp.all((action >= space.low) & (action <= space.high))
        return jnp.where(inside, -jnp.sum(jnp.square(error)), jnp.nan)

    return _one_step("continuous_target", _sign, SIGN, space, reward)


def image():
    """One step; obs is uint8 `[5, 5, 2]` with one lit pixel, the action its channel: V = 1.

    The reward is 1 for the right channel and -1 for the other; the pixel's place is random.
    """

    def observe(key):
        lit = jax.random.randint(key, (), 0, 50)
        return (jnp.arange(50, dtype=jnp.int32) == lit).reshape(5, 5, 2).astype(jnp.uint8) * 255

    def reward(obs, action):
        channel = jnp.argmax(obs.max(axis=(0, 1))).astype(jnp.int32)
        return _score(action == channel)

    space = Box(0, 255, (5, 5, 2), "uint8")
    return _one_step("image", observe, space, BINARY, reward)


def dictionary():
    """One step; obs is a dictionary of an image, a number and a choice, all of which matter: V = 1.

    The right action, of `MultiDiscrete((2, 2))`, is the channel of the lit pixel, and 1 where the
    choice is 2 of 0..2 and the number positive. The reward is 1 for the right one, else 0.
    """
    space = Dict(
        {
            "image": Box(0, 255, (5, 5, 2), "uint8"),
            "number": Box(-1.0, 1.0, ()),
            "choice": Discrete(3),
        }
    )

    def observe(key):
        image_key, number_key, choice_key = jax.random.split(key, 3)
        lit = jax.random.randint(image_key, (), 0, 50)
        pixels = (jnp.arange(50, dtype=jnp.int32) == lit).reshape(5, 5, 2).astype(jnp.uint8)
        return {
            "image": pixels * 255,
            "number": jax.random.uniform(number_key, (), minval=-1.0, maxval=1.0),
            "choice": jax.random.randint(choice_key, (), 0, 3),
        }

    def reward(obs, action):
        channel = jnp.argmax(obs["image"].max(axis=(0, 1))).astype(jnp.int32)
        both = (obs["choice"] == 2) & (obs["number"] > 0)
        wanted = jnp.stack([channel, both.astype(jnp.int32)])
        return (action == wanted).all().astype(jnp.float32)

    return _one_step("dictionary", observe, space, MultiDiscrete((2, 2)), reward)


@struct.dataclass
class CounterState:
    """Steps since the reset, the integer that the reset drew, and a key for the rewards."""

    time: jax.Array
    draw: jax.Array
    key: jax.Array


def counter(limit):
    """Shows which reset a state comes from: every episode has a random number of its own.

    A reset draws an integer `draw` below 2^20, and the episode has `1 + draw % limit` steps; it
    terminates if `draw // limit` is even and is truncated if odd. obs is `[time / limit,
    draw / 2^20]`. The reward is the action plus uniform numbers of the step's key and of the key
    in the state, each in [0, 1): all three of them must be right for the reward to be.
    """

    def observe(state):
        time = state.time.astype(jnp.float32) / limit
        return jnp.stack([time, state.draw.astype(jnp.float32) / 2**20])

    def reset(key, params):
        del params
        draw_key, state_key = jax.random.split(key)
        draw = jax.random.randint(draw_key, (), 0, 2**20)
        state = CounterState(time=jnp.zeros((), jnp.int32), draw=draw, key=state_key)
        return observe(state), state

    def step(key, state, action, params):
        del params
        next_key, reward_key = jax.random.split(state.key)
        noise = jax.random.uniform(key) + jax.random.uniform(reward_key)
        state = CounterState(time=state.time + 1, draw=state.draw, key=next_key)
        ended = state.time >= 1 + state.draw % limit
        terminates = state.draw // limit % 2 == 0
        reward = action.astype(jnp.float32) + noise
        return observe(state), state, reward, ended & terminates, ended & ~terminates, {}

    space = Box(0.0, 1.0, (2,))
    return Environment("counter", reset, step, space, BINARY, max_episode_steps=limit)


SIGN = Box(-1.0, 1.0, (1,))


def _sign(key):
    return jax.random.rademacher(key, (1,), jnp.float32)


def _score(is_right):
    return jnp.where(is_right, jnp.float32(1.0), jnp.float32(-1.0))


def _one_step(name, observe, observation_space, action_space, reward):
    """Episodes of one step, which terminate: `observe(key)`, then `reward(obs, action)`."""

    def reset(key, params):
        del params
        obs = observe(key)
        return obs, obs

    def step(key, obs, action, params):
        del key, params
        terminated = jnp.ones((), jnp.bool)
        return obs, obs, reward(obs, action), terminated, ~terminated, {}

    return Environment(name, reset, step, observation_space, action_space, max_episode_steps=1)
