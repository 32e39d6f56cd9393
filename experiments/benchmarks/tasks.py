"""The environment of a case, as jaxdrl and as the textbook take it."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

import jaxdrl
from benchmarks import cases
from benchmarks.cases import Case
from benchmarks.costly import costly
from benchmarks.textbook import Task
from jaxdrl.config.algorithms import ALGORITHMS
from jaxdrl.core import preprocessing
from jaxdrl.networks.actor_critic import num_policy_outputs


def make_env(case: Case) -> jaxdrl.Environment:
    """The environment for jaxdrl."""
    return costly() if case.env == "Costly" else jaxdrl.make(case.env)


def ppo_config(case: Case) -> jaxdrl.PPOConfig:
    """The config for jaxdrl; what it does besides, such as skipping bad steps, stays on."""
    return jaxdrl.with_settings(
        jaxdrl.PPOConfig(),
        num_envs=case.num_envs,
        num_steps=case.num_steps,
        num_epochs=case.num_epochs,
        num_minibatches=case.num_minibatches,
        hidden_sizes=case.hidden_sizes,
        torso="mlp",
        normalize_observations=case.normalize,
        normalize_rewards=case.normalize,
        learning_rate=cases.LEARNING_RATE,
        adam_epsilon=cases.ADAM_EPSILON,
        gamma=cases.GAMMA,
        gae_lambda=cases.GAE_LAMBDA,
        clip_epsilon=cases.CLIP_EPSILON,
        value_coef=cases.VALUE_COEF,
        entropy_coef=cases.ENTROPY_COEF,
        max_grad_norm=cases.MAX_GRAD_NORM,
    )


def config_of(case: Case, num_shards: int) -> Any:
    """The config of any algorithm for jaxdrl."""
    if case.algorithm == "ppo":
        return jaxdrl.with_settings(ppo_config(case), num_shards=num_shards)
    settings: dict[str, Any] = {
        "num_envs": case.num_envs,
        "num_steps": case.num_steps,
        "hidden_sizes": case.hidden_sizes,
        "activation": "relu",
        "torso": "mlp",
        "learning_rate": cases.LEARNING_RATE,
        "gamma": cases.GAMMA,
        "num_shards": num_shards,
    }
    names: tuple[str, ...] = ("num_epochs", "num_minibatches")
    if case.buffer_size:
        names = ("num_gradient_steps", "batch_size", "buffer_size", "learning_starts")
    settings |= {name: getattr(case, name) for name in names}
    return jaxdrl.with_settings(ALGORITHMS[case.algorithm](), **settings)


def layers(case: Case, env: jaxdrl.Environment) -> list[tuple[int, int]]:
    """`(inputs, outputs)` of every dense layer of actor and critic, first layers first."""
    obs_size = math.prod(preprocessing.prepared_shapes(env.observation_space, 1).shape)
    sizes = (obs_size, *case.hidden_sizes)
    hidden = [pair for pair in itertools.pairwise(sizes) for _ in ("actor", "critic")]
    return [*hidden, (sizes[-1], num_policy_outputs(env.action_space)), (sizes[-1], 1)]


def make_task(case: Case) -> Task:
    """The environment for the textbook: gymnax's own `step`, which resets at every step."""
    if case.env == "Costly":
        return from_environment(costly())
    import gymnax  # seconds

    env, params = gymnax.make(case.env)

    def step(key: jax.Array, env_state: Any, action: Any) -> tuple:
        obs, env_state, reward, terminated, truncated, _ = env.step(key, env_state, action, params)
        return obs, env_state, reward, terminated | truncated

    space = env.action_space(params)
    if isinstance(space, gymnax.environments.spaces.Discrete):
        return Task(lambda key: env.reset(key, params), step, int(space.n), None)
    bounds = (space.low, space.high)
    return Task(lambda key: env.reset(key, params), step, int(space.shape[0]), bounds)


def from_environment(env: jaxdrl.Environment) -> Task:
    """An environment of jaxdrl with discrete actions, reset at every step and selected."""
    params = env.default_params

    def step(key: jax.Array, env_state: Any, action: Any) -> tuple:
        step_key, reset_key = jax.random.split(key)
        obs, env_state, reward, terminated, truncated, _ = env.step(
            step_key, env_state, action, params
        )
        done = terminated | truncated
        fresh = env.reset(reset_key, params)
        obs, env_state = jax.tree.map(
            lambda new, old: jnp.where(done, new, old), fresh, (obs, env_state)
        )
        return obs, env_state, reward, done

    assert isinstance(env.action_space, jaxdrl.spaces.Discrete)
    return Task(lambda key: env.reset(key, params), step, env.action_space.n, None)
