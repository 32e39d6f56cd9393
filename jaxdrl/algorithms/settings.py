"""Settings for an environment: the preset of a known task, else defaults that suit its spaces.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jaxdrl.checks import checked, require
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.presets import CONTROL, PIXELS, SUITE_TASKS, TASKS

if TYPE_CHECKING:
    from jaxdrl.envs.protocol import Environment

PRESETS = TASKS | SUITE_TASKS


@checked
def make_experiment(env: str) -> Experiment:
    """The experiment that trains `env` with what is known to work.

    >>> make_experiment("Pendulum-v1").ppo.normalize_observations
    True

    Raises:
      ConfigError: if there is no such environment.
    """
    if env in PRESETS:
        return PRESETS[env]
    return Experiment(env=env, anneal_learning_rate=True, ppo=make_config(env))


def make_config(env: str | Environment) -> PPOConfig:
    """The settings for `env`: those of a known task, else defaults that suit its spaces.

    Args:
      env: a name, or an environment, which is known by its name as well.

    Raises:
      ConfigError: if there is no environment of that name.
    """
    name = env if isinstance(env, str) else getattr(env, "name", None)
    works = "must be a name, such as 'CartPole-v1', or an environment"
    require(isinstance(name, str) and bool(name), "env", env, works)
    assert name is not None
    if name in PRESETS:
        return PRESETS[name].ppo
    from jaxdrl.envs import make  # gymnax takes seconds

    env = make(env) if isinstance(env, str) else env
    return defaults_for(env)


def defaults_for(env: Environment) -> PPOConfig:
    """Settings by the spaces alone."""
    import jax

    from jaxdrl.core.preprocessing import prepared
    from jaxdrl.core.spaces import Box

    if isinstance(env.action_space, Box):
        return CONTROL
    seen = jax.tree.leaves(prepared(env.observation_space, 1))
    if any(len(x.shape) == 4 for x in seen):
        return replace(PIXELS, torso="auto", hidden_sizes=(256,))
    return PPOConfig(entropy_coef=0.01)
