import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.actors.jax_rollout import jax_collector
from jaxdrl.algorithms.acting import acting_part
from jaxdrl.config.settings import with_settings
from jaxdrl.core.trees import raw
from probe_environments import counter

CONFIG = with_settings(PPOConfig(), num_shards=1, num_envs=4, num_steps=8, num_minibatches=1)


@pytest.fixture(scope="module")
def agent():
    return jaxdrl.ppo(counter(4), CONFIG)


def values(tree):
    return jax.tree.map(lambda x: np.array(raw(x)), tree)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, values(a), values(b))


@pytest.mark.parametrize("place", [0, 2])
def test_it_collects_what_the_rollout_of_the_algorithm_does(agent, place):
    device = jax.devices()[place]
    state = jax.jit(agent.init)(jax.random.key(0))
    learner, actor = acting_part(state.learner), jax.tree.map(jax.numpy.copy, state.actor)
    collector = jax_collector(agent, device)
    assert collector.begin(actor) == 0
    jax.tree.map(lambda x: x.delete(), actor)  # donated
    rollout, actor = jax.jit(agent.rollout), state.actor
    found = []
    for _ in range(2):
        actor, trajectory = rollout(state.learner, actor)
        part = collector.collect(learner, lambda: None)
        assert_same((part.trajectory, part.actor), (trajectory, actor))
        arrays = jax.tree.leaves((part.trajectory, part.actor))
        assert all(x.devices() == {device} for x in arrays)
        assert set(part.seconds) == {"environment", "inference", "transfer"}
        found.append((part, values(part.trajectory), values(part.actor)))
    for part, trajectory, actor in found:  # nobody has written to them
        assert_same((part.trajectory, part.actor), (trajectory, actor))
    again = jax_collector(agent, device)
    again.begin(found[0][0].actor)
    assert_same(again.collect(learner, lambda: None).trajectory, found[1][1])
    again.close()


class StopError(Exception):
    """The run is to end."""


def test_it_can_be_stopped_and_begin_again(agent):
    def stop():
        raise StopError

    state = jax.jit(agent.init)(jax.random.key(0))
    learner, collector = acting_part(state.learner), jax_collector(agent, jax.devices()[0])
    with pytest.raises(RuntimeError, match="have to begin first"):
        collector.collect(learner, lambda: None)
    collector.begin(state.actor)
    with pytest.raises(StopError):
        collector.collect(learner, stop)
    with pytest.raises(RuntimeError, match="have to begin first"):
        collector.collect(learner, lambda: None)
    collector.begin(state.actor)
    collector.collect(learner, lambda: None)
