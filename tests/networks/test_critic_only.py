"""Entries of an observation that only the critic reads: no policy depends on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments as probes
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.preprocessing import prepared_shapes
from jaxdrl.core.spaces import Box, Dict, Discrete
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import unroll
from jaxdrl.networks.build import make_network
from jaxdrl.networks.critics import make_parts

T, N = 3, 4
SPACE = Dict({"own": Box(-1, 1, (2,)), "side": Discrete(2), "world_state": Box(-1, 1, (3,))})
CONFIG = with_settings(NetworkConfig(), hidden_sizes=(8,), critic_only=("world_state",))


def observations(seed=0):
    """`[T, N, ...]`, the same for every seed but for the state."""
    shapes = prepared_shapes(SPACE, N)
    obs = {
        name: np.random.default_rng(0).normal(size=(T, *x.shape)).astype(np.float32)
        for name, x in shapes.items()
    }
    obs["world_state"] = np.random.default_rng(1 + seed).normal(size=(T, N, 3)).astype(np.float32)
    return obs


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_the_policy_keeps_its_bits_whatever_the_critic_reads(memory):
    network = make_network(SPACE, Discrete(3), with_settings(CONFIG, memory=memory))
    params = network.init(jax.random.key(0), jax.tree.map(lambda x: x[0], observations()))
    shapes = {name: params[name]["Dense_0"]["kernel"].shape for name in ("actor", "critic")}
    assert shapes == {"actor": (4, 8), "critic": (7, 8)}
    carry, start = network.initial_carry(N), np.zeros((T, N), bool)

    @jax.jit
    def outputs(obs):
        found = unroll(network, params, carry, obs, start)
        after = network.apply(params, carry, jax.tree.map(lambda x: x[0], obs), start[0])[2]
        return found, after.get("actor", ()) if memory == "gru" else ()

    (policy, value), after = outputs(observations())
    (other_policy, other_value), other_after = outputs(observations(seed=1))
    np.testing.assert_array_equal(policy, other_policy)
    np.testing.assert_array_equal(after, other_after)
    assert np.all(np.abs(value - other_value) > 1e-4)

    @jax.jit
    @jax.grad
    def gradient(params):
        return unroll(network, params, carry, observations(), start)[0][..., 0].sum()

    moved = {name for name, x in gradient(params).items() if np.any(jax.tree.leaves(x)[0])}
    assert {name.split("_")[0] for name in moved} == {"actor", "policy"}


def test_the_actor_of_twin_critics_does_not_read_it_but_they_do():
    obs, other = (jax.tree.map(lambda x: x[0], observations(seed)) for seed in (0, 1))
    parts = make_parts(SPACE, Box(-1, 1, (2,)), CONFIG, has_std=True, critic_layer_norm=False)
    params, action = parts.init(jax.random.key(0), obs), jnp.ones((N, 2))
    for a, b in zip(*(parts.actor(params["actor"], x) for x in (obs, other)), strict=True):
        np.testing.assert_array_equal(a, b)
    values = [parts.critics(params["critic"], x, action) for x in (obs, other)]
    assert np.all(np.abs(values[0] - values[1]) > 1e-4)


class Own(nn.Module):
    """A network of one's own."""

    @nn.compact
    def __call__(self, obs):
        x = nn.Dense(5)(obs["number"])
        return x[:, :4], x[:, 4]


def by_choice(obs):
    return jnp.stack([obs["choice"] > 0, True, True, True])


@pytest.mark.parametrize(
    ("names", "changes", "network", "message"),
    [
        (("choise",), {}, None, r"choise',\): observations have no 'choise'; the nearest: choice$"),
        (("x",), {}, None, r"have no 'x'; there are choice, image, number$"),
        (("image", "number", "choice"), {}, None, "leaves no entry of the observation to the pol"),
        (("choice",), {"action_mask": by_choice}, None, "action_mask of dictionary reads them"),
        (("choice",), {}, Own(), r"must be \(\) with a network of your own"),
    ],
)
def test_what_cannot_be_left_out_of_the_policy_is_refused(names, changes, network, message):
    env = probes.dictionary()._replace(**changes)
    config = with_settings(jaxdrl.PPOConfig(), critic_only=names)
    with pytest.raises(ConfigError, match=message) as caught:
        jaxdrl.ppo(env, config, network=network)
    assert str(caught.value).startswith(f"critic_only = {names!r}: ")


def test_an_observation_that_is_no_dictionary_has_no_entries():
    for make, config, env in (
        (jaxdrl.ppo, jaxdrl.PPOConfig(), jaxdrl.make("CartPole-v1")),
        (jaxdrl.td3, jaxdrl.TD3Config(), jaxdrl.make("Pendulum-v1")),
    ):
        with pytest.raises(ConfigError, match=r"critic_only = \('a',\): needs .* a dictionary"):
            make(env, with_settings(config, critic_only=("a",)))


@pytest.mark.parametrize("config", [jaxdrl.PQNConfig, jaxdrl.DQNConfig])
def test_action_values_have_no_critic(config):
    with pytest.raises(ConfigError, match=r"critic_only = \('a',\): must be \(\): action values"):
        with_settings(config(), critic_only=("a",))


def test_a_shared_torso_has_no_critic_of_its_own():
    with pytest.raises(ConfigError, match=r"critic_only = \('a',\): needs .*shared_torso = False"):
        with_settings(CONFIG, critic_only=("a",), shared_torso=True)
