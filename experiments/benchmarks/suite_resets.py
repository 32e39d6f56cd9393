"""Stepping with auto-reset as each suite does it by itself: what jaxdrl's own is compared with.

Every function takes the name of a task, a number of environments and a key, and gives `(step,
carry)`, for `jax.lax.scan`, of one step of all environments with random actions.
"""

from collections.abc import Callable
from typing import Any

import jax

import jaxdrl
from jaxdrl.core.dtype_promotion import default_promotion

Own = tuple[Callable[[Any, None], tuple[Any, Any]], Any]


def _sampler(name: str) -> Callable[[jax.Array], jax.Array]:
    """Random actions of so many keys."""
    return jax.vmap(jaxdrl.make(name).action_space.sample)


def _split(keys: jax.Array, num: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.split(key, num))(keys)


def brax(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its `AutoResetWrapper`, which goes back to the first state of each environment."""
    from brax import envs

    env = envs.create(name.split("/")[1], batch_size=num_envs, episode_length=1000)
    return _of_wrapped(name, env, num_envs, key)


def playground(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its wrapper for training, which does the same."""
    from mujoco_playground import dm_control_suite, wrapper

    task = name.split("/")[1]
    env = dm_control_suite.load(task, config_overrides={"impl": "jax"})
    wrapped = wrapper.wrap_for_brax_training(env, episode_length=1000, action_repeat=1)
    batched: Any = type("Batched", (), {"step": wrapped.step})()
    batched.reset = lambda key: wrapped.reset(jax.random.split(key, num_envs))
    return _of_wrapped(name, batched, num_envs, key)


def _of_wrapped(name: str, env: Any, num_envs: int, key: jax.Array) -> Own:
    reset_key, play_key = jax.random.split(key)
    with default_promotion():
        state = jax.jit(env.reset)(jax.random.key_data(reset_key))

    sample = _sampler(name)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        state, keys = carry
        keys = _split(keys, 2)
        with default_promotion():
            state = env.step(state, sample(keys[:, 1]))
        return (state, keys[:, 0]), (state.obs, state.reward, state.done)

    return step, (state, jax.random.split(play_key, num_envs))


def craftax(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its `step`, which makes a new world for every environment at every step."""
    from craftax.craftax_env import make_craftax_env_from_name

    env = make_craftax_env_from_name(name.split("/")[1], auto_reset=True)
    params = env.default_params
    reset_key, play_key = jax.random.split(key)
    keys = jax.random.key_data(jax.random.split(reset_key, num_envs))
    with default_promotion():
        _, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)

    sample = _sampler(name)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        state, keys = carry
        keys = _split(keys, 3)
        raw, action = jax.random.key_data(keys[:, 2]), sample(keys[:, 1])
        with default_promotion():
            mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
            obs, state, reward, done, _ = mapped(raw, state, action, params)
        return (state, keys[:, 0]), (obs, reward, done)

    return step, (state, jax.random.split(play_key, num_envs))


def jumanji(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its `AutoResetWrapper` under `vmap`; actions are random among all, as for the others."""
    import jumanji as suite
    from jumanji.wrappers import AutoResetWrapper

    with default_promotion():
        env = AutoResetWrapper(suite.make(name.split("/")[1]))
    return _of_timesteps(name, env.reset, env.step, num_envs, key)


def jumanji_map(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its `VmapAutoResetWrapper`, which resets one environment after another where it is due."""
    import jumanji as suite
    from jumanji.wrappers import VmapAutoResetWrapper

    with default_promotion():
        env = VmapAutoResetWrapper(suite.make(name.split("/")[1]))
    return _of_timesteps(name, env.reset, env.step, num_envs, key, mapped=True)


def _of_timesteps(
    name: str,
    reset: Callable,
    step_one: Callable,
    num_envs: int,
    key: jax.Array,
    mapped: bool = False,
) -> Own:
    reset_key, play_key = jax.random.split(key)
    reset, step_all = (reset, step_one) if mapped else (jax.vmap(reset), jax.vmap(step_one))
    with default_promotion():
        keys = jax.random.key_data(jax.random.split(reset_key, num_envs))
        state, _ = jax.jit(reset)(keys)

    sample = _sampler(name)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        state, keys = carry
        keys = _split(keys, 2)
        with default_promotion():
            state, timestep = step_all(state, sample(keys[:, 1]))
        return (state, keys[:, 0]), (timestep.observation, timestep.reward, timestep.step_type)

    return step, (state, jax.random.split(play_key, num_envs))


def xminigrid(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its `GymAutoResetWrapper` under `vmap`."""
    import xminigrid as suite
    from xminigrid.wrappers import GymAutoResetWrapper

    env, params = suite.make(name.split("/")[1])
    env = GymAutoResetWrapper(env)
    reset_key, play_key = jax.random.split(key)
    keys = jax.random.key_data(jax.random.split(reset_key, num_envs))
    with default_promotion():
        timestep = jax.jit(jax.vmap(env.reset, in_axes=(None, 0)))(params, keys)

    sample = _sampler(name)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        timestep, keys = carry
        keys = _split(keys, 2)
        with default_promotion():
            mapped = jax.vmap(env.step, in_axes=(None, 0, 0))
            timestep = mapped(params, timestep, sample(keys[:, 1]))
        return (timestep, keys[:, 0]), (timestep.observation, timestep.reward, timestep.step_type)

    return step, (timestep, jax.random.split(play_key, num_envs))


def navix(name: str, num_envs: int, key: jax.Array) -> Own:
    """Its `step`, which resets by itself, under `vmap`."""
    import navix as suite

    env = suite.make(name.split("/")[1])
    reset_key, play_key = jax.random.split(key)
    with default_promotion():
        keys = jax.random.split(reset_key, num_envs)
        timestep = jax.jit(jax.vmap(env.reset))(keys)

    sample = _sampler(name)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        timestep, keys = carry
        keys = _split(keys, 2)
        with default_promotion():
            timestep = jax.vmap(env.step)(timestep, sample(keys[:, 1]))
        return (timestep, keys[:, 0]), (timestep.observation, timestep.reward, timestep.step_type)

    return step, (timestep, jax.random.split(play_key, num_envs))


WAYS: dict[str, tuple[Callable[[str, int, jax.Array], Own], ...]] = {
    "brax": (brax,),
    "craftax": (craftax,),
    "jumanji": (jumanji, jumanji_map),
    "navix": (navix,),
    "playground": (playground,),
    "xminigrid": (xminigrid,),
}
"""The ways of each suite; where there are two, the faster one counts."""
