"""Settings for an environment: the preset of a known task, else defaults that suit its spaces.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxdrl.checks import require
from jaxdrl.config.algorithms import DEFAULT, PPOConfig, require_algorithm
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.presets import CONTROL, PIXELS, adapted, find
from jaxdrl.config.settings import with_settings

if TYPE_CHECKING:
    from jaxdrl.envs.protocol import Environment


def make_experiment(
    env: str | Environment, algorithm: str = DEFAULT, **settings: Any
) -> Experiment:
    """The experiment that trains on `env`: its tuned preset, with `settings` laid over it.

    >>> experiment = make_experiment("Pendulum-v1", num_envs=64, reproducible=True, seed=3)
    >>> experiment.algorithm.normalize_observations, experiment.algorithm.num_envs
    (True, 64)

    Args:
      env: a name, or an environment, which is known by its name as well.
      algorithm: by name.
      **settings: every setting by the name of its flag, nested or not: fields of `Experiment`, of
        the settings of the algorithm, of its network and of its execution.

    Raises:
      ConfigError: for an environment, algorithm or setting that there is not, with the nearest.
    """
    name = _name_of(env)
    require_algorithm(algorithm)
    preset = find(name, algorithm)
    if preset is None:
        config = make_config(env, algorithm)
        preset = Experiment(env=name, anneal_learning_rate=True, algorithm=config)
    return with_settings(preset, **settings)


def make_config(env: str | Environment, algorithm: str = DEFAULT, **settings: Any) -> Any:
    """The settings of an algorithm for `env`: tuned ones, else defaults that suit its spaces.

    >>> make_config("CartPole-v1", num_envs=64, hidden_sizes=(128,)).network.hidden_sizes
    (128,)

    Args:
      env: a name, or an environment, which is known by its name as well.
      algorithm: by name.
      **settings: laid over them, each by the name of its flag, nested or not.

    Raises:
      ConfigError: for an environment, algorithm or setting that there is not, with the nearest.
    """
    name = _name_of(env)
    require_algorithm(algorithm)
    preset = find(name, algorithm)
    if preset is None:
        from jaxdrl.envs import make  # gymnax takes seconds

        config = defaults_for(make(env) if isinstance(env, str) else env)
        return with_settings(adapted(config, algorithm), **settings)
    return with_settings(preset.algorithm, **settings)


def _name_of(env: Any) -> str:
    name = env if isinstance(env, str) else getattr(env, "name", None)
    works = "must be a name, such as 'CartPole-v1', or an environment"
    require(isinstance(name, str) and bool(name), "env", env, works)
    assert name is not None
    return name


def defaults_for(env: Environment) -> PPOConfig:
    """Settings of PPO by the spaces alone."""
    import jax

    from jaxdrl.core.preprocessing import prepared_shapes
    from jaxdrl.core.spaces import Box

    if isinstance(env.action_space, Box):
        return CONTROL
    seen = jax.tree.leaves(prepared_shapes(env.observation_space, 1))
    if any(len(x.shape) == 4 for x in seen):
        return with_settings(PIXELS, torso="auto", hidden_sizes=(256,))
    return PPOConfig(entropy_coef=0.01)
