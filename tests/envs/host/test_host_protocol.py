import jax
import jax.numpy as jnp
import pytest

from jaxdrl import spaces
from jaxdrl.envs.host.protocol import HostEnvironment, on_host
from jaxdrl.envs.type_checks import check_types

SPACE = spaces.Dict(
    {"pixels": spaces.Box(0, 255, (4, 3), "uint8"), "speed": spaces.Box(-1.0, 1.0, ())}
)


def made(**limits):
    host = HostEnvironment(make=lambda num_envs: None, replays=True)
    return on_host("here/Task", host, SPACE, spaces.Box(-1.0, 1.0, (2,)), **limits)


def test_it_has_the_types_of_any_environment_without_making_a_copy():
    check_types(made(max_episode_steps=7))


def test_before_the_first_episode_nothing_has_been_played():
    obs, state = made(max_episode_steps=7).reset(jax.random.key(0), ())
    assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), obs) == {
        "pixels": ((4, 3), "uint8"),
        "speed": ((), "float32"),
    }
    assert (int(state.episode), int(state.num_steps)) == (-1, 0)
    assert state.actions.shape == (7, 2)


def test_without_a_limit_no_episode_can_be_replayed():
    env = made()
    assert env.reset(jax.random.key(0), ())[1].actions.shape == (0, 2)


def test_a_program_that_runs_it_says_who_can():
    env = made(max_episode_steps=7)
    _, state = env.reset(jax.random.key(0), ())
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"here/Task: runs on the host.*jaxdrl\.run"
    ):
        jax.block_until_ready(jax.jit(env.step)(jax.random.key(0), state, jnp.zeros(2), ()))
