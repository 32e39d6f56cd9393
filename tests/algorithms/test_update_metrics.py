"""Statistics and metrics of an update, by hand; whole updates are in `test_ppo_reference.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probe_environments as probes
from jaxdrl import PPOConfig
from jaxdrl.algorithms import update_metrics
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.batch import Batch
from jaxdrl.config.settings import with_settings
from jaxdrl.core.running_statistics import RunningStatistics
from jaxdrl.core.spaces import Discrete
from jaxdrl.core.types import LearnerState, Transition
from jaxdrl.distributed.layout import make_layout

CONFIG = with_settings(PPOConfig(), num_envs=2, num_steps=3, num_shards=1, num_minibatches=1)
LAYOUT = make_layout(1, False, None)
NAN, INF = float("nan"), float("inf")


def explained_variance(target, value):
    target, value = (np.float32(x)[None, :, None] for x in (target, value))
    columns = dict.fromkeys(("obs", "action", "log_prob", "advantage", "episode_start"), ())
    batch = Batch(target=jnp.asarray(target), value=jnp.asarray(value), carry=(), **columns)
    return float(update_metrics.explained_variance(LAYOUT, batch))


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [
        ([1, 2, 3, 6], [1, 2, 3, 6], 1.0),
        ([1, 2, 3, 6], [11, 12, 13, 16], 1.0),  # an offset is no variance
        ([0, 4, 0, 4], [1, 3, 1, 3], 0.75),  # errors of +-1, targets of +-2
        ([0, 4, 0, 4], [2, 2, 2, 2], 0.0),
        ([0, 4, 0, 4], [4, 0, 4, 0], -3.0),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0.0),  # undefined
        ([5, 5, 5, 5], [1, 2, 3, 4], 0.0),
        ([0, NAN, 0, 4], [0, 0, 0, 0], 0.0),
        ([0, 4, 0, 4], [0, INF, 0, 0], 0.0),
    ],
)
def test_the_share_of_the_variance_that_the_value_explains(target, value, expected):
    assert explained_variance(target, value) == pytest.approx(expected, abs=1e-6)


def trajectory(**changes):
    """Three steps of two environments, in which three episodes end."""
    zeros, no = jnp.zeros((3, 2)), jnp.zeros((3, 2), bool)
    columns = dict.fromkeys(("log_prob", "value", "next_value", "reward"), zeros)
    columns |= {
        "obs": zeros[..., None],
        "action": zeros.astype(jnp.int32),
        "terminated": jnp.array([[True, False], [False, False], [False, True]]),
        "truncated": jnp.array([[False, False], [False, True], [False, False]]),
        "episode_return": jnp.array([[1.0, 20.0], [300.0, 4000.0], [5e4, 6e5]]),
        "episode_length": jnp.array([[1, 20], [300, 4000], [50000, 600000]], jnp.int32),
        "discounted_return": zeros,
        "episode_start": no,
        "carry": (),
    }
    return Transition(**columns | changes)


def sums(env, **changes):
    grouped = jax.tree.map(lambda x: x[None], trajectory(**changes))
    found = update_metrics.episode_metrics(Agent(env, None, None, LAYOUT), grouped)
    return {name: float(value) for name, value in found.items()}


def test_sums_are_over_the_episodes_that_ended_either_way():
    assert sums(probes.action_reward()) == {
        "episode_return_sum": 604001.0,
        "episode_length_sum": 604001.0,
        "num_episodes": 3.0,
        "nonfinite_observations": 0.0,
        "nonfinite_rewards": 0.0,
        "nonfinite_values": 0.0,
    }


def test_numbers_that_cannot_be_used_are_counted_by_where_they_are():
    bad = jnp.array([[NAN, 1.0], [INF, -INF], [0.0, 1e30]])
    obs = {"a": jnp.zeros((3, 2, 4), jnp.int32), "b": bad[..., None], "c": jnp.stack([bad] * 2, -1)}
    found = sums(probes.action_reward(), obs=obs, reward=bad.at[0, 0].set(0.0))
    assert found["nonfinite_observations"] == 12
    assert found["nonfinite_rewards"] == 3
    assert found["nonfinite_values"] == 15


def test_states_that_allow_nothing_are_counted():
    env = probes.masked(Discrete(4))
    obs = jnp.zeros((3, 2, 4)).at[0, 0, 3].set(1.0).at[2, 1].set(1.0)
    assert sums(env, obs=obs)["states_without_action"] == 4


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_cannot_be_used_counts_as_the_mean_so_far(bad):
    """The mean 2 and variance 4 of 6 observations, then 2, 3, 4, 5, 6 and a bad one."""
    agent = Agent(probes.action_reward(), None, None, LAYOUT)
    old = RunningStatistics(jnp.float32(6), jnp.array([2.0]), jnp.array([4.0]))
    learner = LearnerState((), (), old, None, (), jnp.int32(0))
    obs = jnp.array([[2.0, 3.0], [4.0, bad], [5.0, 6.0]])[..., None]
    grouped = jax.tree.map(lambda x: x[None], trajectory(obs=obs))
    found = update_metrics.update_obs_statistics(agent, learner, grouped)
    seen = np.array([2.0, 3.0, 4.0, 2.0, 5.0, 6.0])
    mean = (6 * 2.0 + seen.sum()) / 12
    variance = (6 * (4.0 + 2.0**2) + (seen**2).sum()) / 12 - mean**2
    assert found.count == 12
    np.testing.assert_allclose(found.mean, [mean], rtol=1e-6)
    np.testing.assert_allclose(found.variance, [variance], rtol=1e-6)
