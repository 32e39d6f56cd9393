"""From settings to an algorithm."""

from dataclasses import dataclass

import optax
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl.algorithms.build import build, config_type
from jaxdrl.config.presets import adapted
from jaxdrl.errors import ConfigError

ENV = probes.counter(4)
PPO = jaxdrl.with_settings(jaxdrl.PPOConfig(), num_envs=8, num_steps=4, hidden_sizes=(4,))


@dataclass(frozen=True)
class OwnConfig:
    """Settings of an algorithm of one's own."""

    num_envs: int = 8


def own(env, config: OwnConfig, *, mesh=None) -> jaxdrl.Algorithm:
    """Stands for an algorithm of one's own."""
    return jaxdrl.ppo(env, PPO, mesh=mesh)


@pytest.mark.parametrize("config", [PPO, adapted(PPO, "impala"), adapted(PPO, "pqn")])
def test_settings_give_their_algorithm(config):
    algorithm = build(ENV, config)
    assert isinstance(algorithm, jaxdrl.Algorithm)
    assert ("clip_fraction" in algorithm.metrics) == (config is PPO)


def test_an_own_algorithm_is_made_of_its_own_settings():
    assert config_type(own) is OwnConfig
    assert isinstance(build(ENV, OwnConfig(), make_algorithm=own), jaxdrl.Algorithm)


def no_annotation(env, config, *, mesh=None):
    """Says nothing of its settings."""


def of_an_integer(env, config: int, *, mesh=None):
    """Has settings that are not a dataclass."""


def no_algorithm(env, config: OwnConfig, *, mesh=None):
    """Gives something else."""
    return 3


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (OwnConfig(), {}, "algorithm: OwnConfig are not settings of an algorithm of jaxdrl; make_"),
        (PPO, {"make_algorithm": own}, "make_algorithm: takes a OwnConfig, and algorithm is a PPO"),
        (OwnConfig(), {"make_algorithm": no_annotation}, "annotate its second argument with"),
        (OwnConfig(), {"make_algorithm": of_an_integer}, "annotate its second argument with"),
        (OwnConfig(), {"make_algorithm": lambda env: env}, "annotate its second argument with"),
        (OwnConfig(), {"make_algorithm": no_algorithm}, "make_algorithm: gives a int; must give"),
        (
            OwnConfig(),
            {"make_algorithm": own, "optimizer": optax.sgd(0.1)},
            "optimizer: make_algorithm has no argument optimizer; add it, or leave it",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_do(config, options, message):
    with pytest.raises(ConfigError) as caught:
        build(ENV, config, **options)
    assert message in str(caught.value)
