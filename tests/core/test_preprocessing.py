"""Dictionaries of observations, from the environment's check to training on several devices."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments as probes
from jaxdrl import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.preprocessing import prepare_observation, prepared_shapes
from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete
from jaxdrl.errors import ConfigError
from jaxdrl.networks.build import make_network

CONFIG = with_settings(
    PPOConfig(),
    num_envs=64,
    num_steps=16,
    num_minibatches=4,
    learning_rate=1e-2,
    gamma=0.9,
    hidden_sizes=(32,),
    cnn_channels=(4,),
    activation="relu",
)
SPACE = Dict({"b": Discrete(3), "a": Box(0, 255, (2,), "uint8"), "c": Dict({"d": Box(0, 1, ())})})
OBS = {"a": [51, 255], "b": 2, "c": {"d": 0.5}}


def test_a_dictionary_is_prepared_part_by_part():
    obs = {
        "a": jnp.array([[51, 255]], jnp.uint8),
        "b": jnp.array([2], jnp.int32),
        "c": {"d": jnp.array([0.5])},
    }
    x = prepare_observation(SPACE, obs)
    expected = {"a": [[0.2, 1.0]], "b": [[0, 0, 1]], "c": {"d": [[0.5]]}}
    assert jax.tree.structure(x) == jax.tree.structure(expected, is_leaf=lambda x: type(x) is list)
    for actual, wanted in zip(
        jax.tree.leaves(x), ([[0.2, 1.0]], [[0, 0, 1]], [[0.5]]), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-6)
    shapes = jax.tree.map(lambda x: x.shape, x)
    assert shapes == jax.tree.map(lambda x: x.shape, prepared_shapes(SPACE, 1))


def test_choices_become_one_hot_side_by_side_in_their_order():
    space = MultiDiscrete((2, 3))
    x = prepare_observation(space, jnp.array([[0, 2], [1, 0]], jnp.int32))
    assert x.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
    assert x.dtype == jnp.float32
    assert prepared_shapes(space, 2).shape == x.shape


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (Box(0, 255, (2,), "uint8"), np.array([[0, 51]], np.uint8), [[0.0, 0.2]]),
        (Box(0, 255, (2,), "int32"), np.array([[0, 51]], np.int32), [[0.0, 51.0]]),
        (Box(-1.0, 1.0, ()), np.array([0.5, -0.5], np.float32), [[0.5], [-0.5]]),
        (Box(0, 1, (2,), "bool"), np.array([[True, False]]), [[1.0, 0.0]]),
    ],
    ids=["bytes", "integers", "scalars", "bools"],
)
def test_numbers_are_cast_and_only_bytes_are_divided(space, obs, expected):
    x = prepare_observation(space, jnp.asarray(obs))
    np.testing.assert_allclose(x, np.float32(expected), rtol=1e-6)
    assert x.dtype == jnp.float32
    assert prepared_shapes(space, len(obs)).shape == x.shape


def test_parts_of_a_dictionary_are_drawn_independently():
    twins = Dict({"a": Box(0.0, 1.0, (3,)), "b": Box(0.0, 1.0, (3,))})
    drawn = twins.sample(jax.random.key(0))
    assert (drawn["a"] != drawn["b"]).all()


def test_a_dictionary_of_spaces_is_a_value():
    assert Dict(dict(reversed(SPACE.items))) == SPACE
    assert hash(Dict(dict(SPACE.items))) == hash(SPACE)
    assert SPACE["b"] == Discrete(3)
    assert (
        eval(repr(SPACE), {"Dict": Dict, "Box": Box, "Discrete": Discrete, "dtype": np.dtype})
        == SPACE
    )
    assert SPACE.contains(OBS)
    assert SPACE.contains(jax.device_get(SPACE.sample(jax.random.key(0))))
    for wrong in (
        {**OBS, "b": 3},
        {"a": OBS["a"]},
        {**OBS, "e": 1},
        [51],
        {**OBS, "c": {"d": 2.0}},
    ):
        assert not SPACE.contains(wrong)


@pytest.mark.parametrize(
    ("spaces", "error", "message"),
    [
        ({}, ValueError, "must have at least one entry, got none"),
        ({"a": 3}, TypeError, "spaces\\['a'\\] must be one of jaxdrl's spaces, got int"),
    ],
)
def test_what_is_no_dictionary_of_spaces_is_refused(spaces, error, message):
    with pytest.raises(error, match=message):
        Dict(spaces)


@pytest.mark.parametrize("changes", [{}, {"memory": "gru", "num_minibatches": 2}])
def test_every_part_of_a_dictionary_is_learnt_from(changes):
    env = probes.dictionary()
    config = with_settings(CONFIG, normalize_observations=True, **changes)
    agent = jaxdrl.ppo(env, config, mesh=jaxdrl.make_mesh(2))
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=80)
    statistics = state.learner.obs_statistics
    assert statistics.mean["image"].shape == (5, 5, 2)
    np.testing.assert_allclose(statistics.mean["choice"], 1 / 3, atol=0.02)
    np.testing.assert_allclose(statistics.variance["number"], 1 / 3, atol=0.02)
    key = jax.random.key(1)
    result = jaxdrl.evaluate(env, agent.policy, state.learner, key, num_episodes=512)
    assert result.mean_return > 0.95


def test_an_image_in_a_dictionary_goes_through_convolutions_and_the_rest_beside_them():
    space = probes.dictionary().observation_space
    network = make_network(space, Discrete(2), with_settings(CONFIG.network, shared_torso=True))
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(network.init, key, prepared_shapes(space, 1))
    kernels = [params["actor"][f"Dense_{i}"]["kernel"].shape for i in range(2)]
    assert kernels == [(9 * 2, 4), (3 * 3 * 4 + 1 + 3, 32)]
    flat = make_network(
        space, Discrete(2), with_settings(CONFIG.network, shared_torso=True, torso="mlp")
    )
    params = jax.eval_shape(flat.init, key, prepared_shapes(space, 1))
    assert params["actor"]["Dense_0"]["kernel"].shape == (5 * 5 * 2 + 1 + 3, 32)


def test_a_network_of_ones_own_gets_the_dictionary():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, obs):
            x = nn.Dense(8)(jnp.concatenate([obs["number"], obs["choice"]], axis=1))
            return nn.Dense(4)(x), nn.Dense(1)(x)[:, 0]

    agent = jaxdrl.ppo(probes.dictionary(), CONFIG, network=Own())
    state = jax.jit(agent.init)(jax.random.key(0))
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    weights = jax.device_get([state.learner.params[f"Dense_{i}"] for i in (0, 2)])
    obs = jax.device_get(trajectory.obs)
    x = np.concatenate([obs["number"][..., None], np.eye(3)[obs["choice"]]], axis=-1)
    for layer in weights:
        x = x @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(trajectory.value, x[..., 0], rtol=1e-5, atol=1e-6)


def test_bad_numbers_in_a_dictionary_are_counted_and_left_out_of_the_statistics():
    env = probes.dictionary()

    def reset(key, params):
        obs, state = env.reset(key, params)
        return {**obs, "number": obs["number"] * jnp.nan}, state

    config = replace(CONFIG, normalize_observations=True)
    agent = jaxdrl.ppo(env._replace(reset=reset), config)
    state, metrics = jax.jit(agent.train_step)(jax.jit(agent.init)(jax.random.key(0)))
    assert metrics["nonfinite_observations"] == CONFIG.env_steps_per_update
    statistics = state.learner.obs_statistics
    assert statistics.mean["number"].tolist() == [0.0]  # as it began
    assert statistics.mean["choice"].sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(0, 1, (5,)), "the observation is a dict; must be a single array, or a dictionary"),
        (Dict({"image": Discrete(2)}), "is a dictionary of ['choice', 'image', 'number'], but"),
        (
            Dict(
                {
                    "image": Box(0, 255, (5, 5), "uint8"),
                    "number": Box(-1, 1, ()),
                    "choice": Discrete(3),
                }
            ),
            "the observation['image'] has shape (5, 5, 2), but observation_space says (5, 5)",
        ),
    ],
)
def test_observations_that_are_not_in_their_space_are_refused(space, message):
    with pytest.raises(ConfigError) as caught:
        jaxdrl.ppo(probes.dictionary()._replace(observation_space=space), CONFIG)
    assert message in str(caught.value)


def test_an_array_where_the_space_is_a_dictionary_is_refused():
    env = probes.action_reward()._replace(observation_space=SPACE)
    with pytest.raises(ConfigError, match="the observation is a ShapeDtypeStruct, but"):
        jaxdrl.ppo(env, CONFIG)


def test_the_torso_asked_for_has_to_find_an_image():
    space = Dict({"a": Box(0, 1, (3,)), "b": Discrete(2)})
    make = partial(make_network, space, MultiDiscrete((2, 2)))
    with pytest.raises(ConfigError, match=r"observations of shapes .* are not \[height, width"):
        make(with_settings(CONFIG.network, torso="cnn"))
