"""The replay buffer under the users' compiler flags: it is written where it lies."""

import jax
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl import DQNConfig, with_settings

FULLY_OPTIMIZED = True


def memory(buffer_size, reproducible, num_devices):
    """What the compiler says of a training step."""
    config = with_settings(
        DQNConfig(),
        num_envs=16,
        num_steps=4,
        num_gradient_steps=2,
        buffer_size=buffer_size,
        learning_starts=64,
        n_step=2,
        hidden_sizes=(8,),
        reproducible=reproducible,
    )
    mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)
    agent = jaxdrl.dqn(probes.counter(4), config, mesh=mesh)
    init = jax.jit(agent.init)
    state = jax.eval_shape(init, jax.random.key(0)) if mesh is None else init(jax.random.key(0))
    return jaxdrl.jit_step(agent).lower(state).compile().memory_analysis()


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("num_devices", [None, pytest.param(4, marks=pytest.mark.slow)])
def test_a_step_needs_no_more_for_a_larger_buffer(reproducible, num_devices):
    """It writes into 10,240 rows as into a million."""
    small, large = (memory(rows, reproducible, num_devices) for rows in (10_240, 1_024_000))
    more = large.argument_size_in_bytes - small.argument_size_in_bytes
    assert more > 1_000_000 * 10 / (num_devices or 1)
    assert large.alias_size_in_bytes - small.alias_size_in_bytes == more
    assert large.temp_size_in_bytes < small.temp_size_in_bytes + 1000
