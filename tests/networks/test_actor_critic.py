"""Networks: shapes, initialisation, what a shared torso shares, and a module of the user's own."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.preprocessing import prepare_observation, prepared_shapes
from jaxdrl.core.spaces import Box, Discrete, MultiDiscrete
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import ACTIVATIONS, from_module, num_policy_outputs, orthogonal
from jaxdrl.networks.build import make_network

N = 5
ACTIONS = {
    "discrete": Discrete(3),
    "multi_discrete": MultiDiscrete((2, 4)),
    "scalar_box": Box(-1.0, 1.0, ()),
    "box": Box(-2.0, 2.0, (2,)),
}
NUM_OUTPUTS = {"discrete": 3, "multi_discrete": 6, "scalar_box": 1, "box": 2}
OBS_SHAPES = {"mlp": (4,), "cnn": (7, 6, 2)}


def obs_space(shape):
    return Box(-np.inf, np.inf, shape)


@functools.cache
def init(obs_shape, action_space=ACTIONS["discrete"], seed=0, **settings):
    """`(network, params, obs [N, ...])`; not jitted, so that layers alike are compiled once."""
    network = make_network(
        obs_space(obs_shape), action_space, with_settings(NetworkConfig(), **settings)
    )
    obs = jnp.asarray(np.random.default_rng(1).normal(size=(N, *obs_shape)), jnp.float32)
    return network, network.init(jax.random.key(seed), obs), obs


def param_shapes(obs_shape, action_space=ACTIONS["discrete"], **settings):
    """Parameters as shapes alone, traced without compiling anything."""
    network = make_network(
        obs_space(obs_shape), action_space, with_settings(NetworkConfig(), **settings)
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(network.init, key, jnp.zeros((1, *obs_shape)))


def apply(network, params, obs):
    return network.apply(params, (), obs, jnp.zeros(obs.shape[0], bool))


def kernels(params):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel"
    }


@pytest.mark.parametrize("shared_torso", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("torso", ["mlp", "cnn"])
@pytest.mark.parametrize("action", ACTIONS)
def test_shapes_of_the_outputs(action, torso, shared_torso):
    space, obs_shape = ACTIONS[action], OBS_SHAPES[torso]
    settings = {"torso": torso, "shared_torso": shared_torso, "hidden_sizes": (8,)}
    network = make_network(
        obs_space(obs_shape), space, with_settings(NetworkConfig(), **settings, cnn_channels=(3,))
    )

    def outputs(key, obs):
        return apply(network, network.init(key, obs), obs)

    key = jax.eval_shape(lambda: jax.random.key(0))
    policy, value, carry = jax.eval_shape(outputs, key, jnp.zeros((N, *obs_shape)))
    assert carry == () == network.initial_carry(N)
    assert value.shape == (N,)
    assert num_policy_outputs(space) == NUM_OUTPUTS[action]
    if isinstance(space, Box):
        mean, log_std = policy
        assert mean.shape == log_std.shape == (N, *space.shape)
    else:
        assert policy.shape == (N, NUM_OUTPUTS[action])
    assert {leaf.dtype for leaf in jax.tree.leaves((policy, value))} == {jnp.dtype("float32")}


# By hand, for 4 observed numbers, 3 actions and layers of 8 and 6 units:
# a torso 4 * 8 + 8 + 8 * 6 + 6 = 94, the heads 6 * 3 + 3 = 21 and 6 + 1 = 7.
# For 7 x 6 x 2 pixels, 3 channels and 8 units: a torso 3 * 3 * 2 * 3 + 3 = 57 and
# 5 * 4 * 3 * 8 + 8 = 488, the heads 8 * 3 + 3 = 27 and 8 + 1 = 9.
@pytest.mark.parametrize(
    ("shared_torso", "obs_shape", "hidden_sizes", "expected"),
    [
        (False, (4,), (8, 6), 2 * 94 + 21 + 7),
        (True, (4,), (8, 6), 94 + 21 + 7),
        (False, (7, 6, 2), (8,), 2 * (57 + 488) + 27 + 9),
        (True, (7, 6, 2), (8,), 57 + 488 + 27 + 9),
    ],
)
def test_number_of_parameters(shared_torso, obs_shape, hidden_sizes, expected):
    settings = {"shared_torso": shared_torso, "hidden_sizes": hidden_sizes, "cnn_channels": (3,)}
    params = param_shapes(obs_shape, **settings)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_a_box_adds_one_log_std_a_dimension():
    settings = {"hidden_sizes": (8,), "initial_log_std": -0.5}
    network, params, obs = init((4,), ACTIONS["box"], **settings)
    np.testing.assert_array_equal(params["log_std"], [-0.5, -0.5])
    (_, log_std), _, _ = apply(network, params, obs)
    np.testing.assert_array_equal(log_std, np.full((N, 2), -0.5))


def touched(network, params, obs, loss):
    """Names of the layers whose gradient is not zero."""

    def objective(params):
        policy, value, _ = apply(network, params, obs)
        return (policy if loss == "policy" else value).sum()

    gradient = jax.grad(objective)(params)
    return {
        name
        for name, part in gradient.items()
        if any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(part))
    }


def test_separate_torsos_share_nothing():
    network, params, obs = init((4,), hidden_sizes=(8,))
    assert set(params) == {"actor", "critic", "policy", "value"}
    assert touched(network, params, obs, "policy") == {"actor", "policy"}
    assert touched(network, params, obs, "value") == {"critic", "value"}
    actor, critic = (np.asarray(params[name]["Dense_0"]["kernel"]) for name in ("actor", "critic"))
    assert np.abs(actor - critic).max() > 0.1


def test_a_shared_torso_learns_from_both_heads():
    network, params, obs = init((4,), hidden_sizes=(8,), shared_torso=True)
    assert set(params) == {"actor", "policy", "value"}
    assert touched(network, params, obs, "policy") == {"actor", "policy"}
    assert touched(network, params, obs, "value") == {"actor", "value"}


def test_a_network_of_action_values_has_one_torso_and_the_largest_as_its_value():
    config = with_settings(NetworkConfig(), hidden_sizes=(8,), shared_torso=False)
    network = make_network(obs_space((4,)), ACTIONS["discrete"], config, action_values=True)
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(N, 4)), jnp.float32)
    params = network.init(jax.random.key(0), obs)
    assert set(params) == {"actor", "q_values"}
    q_values, value, _ = apply(network, params, obs)
    assert q_values.shape == (N, 3)
    np.testing.assert_array_equal(value, q_values.max(axis=-1))


@pytest.mark.parametrize("obs_shape", [(4,), (7, 6, 2)])
def test_layer_norm_takes_away_the_scale_of_a_layer(obs_shape):
    """Doubled weights and biases before a normalisation change nothing but by its epsilon."""
    settings = {"hidden_sizes": (8, 6), "activation": "relu"}
    assert "LayerNorm_0" not in param_shapes(obs_shape, **settings)["actor"]
    network, params, obs = init(obs_shape, **settings, layer_norm=True)
    layers = {name for name in params["actor"] if name.startswith("Dense")}
    assert {f"LayerNorm_{name[-1]}" for name in layers} == set(params["actor"]) - layers
    for name in layers:
        other = jax.tree.map(lambda x: 2.0 * x, params["actor"][name])
        scaled = {**params, "actor": {**params["actor"], name: other}}
        for ours, theirs in zip(
            apply(network, params, obs)[:2], apply(network, scaled, obs)[:2], strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert np.abs(np.asarray(apply(network, params, obs)[0])).max() > 1e-3


def test_signs_of_orthogonal_matrices_are_even():
    """The matrices of a QR decomposition alone have columns of one sign."""
    keys = jax.random.split(jax.random.key(0), 400)
    first = np.array([orthogonal(1.0)(key, (4, 2))[0] for key in keys])
    assert 0.4 < np.mean(first[:, 0] > 0) < 0.6
    assert 0.4 < np.mean(first[:, 1] > 0) < 0.6


@pytest.mark.parametrize("obs_shape", [(4,), (7, 6, 2)], ids=["mlp", "cnn"])
def test_kernels_are_orthogonal_with_their_gain_and_biases_zero(obs_shape):
    _, params, _ = init(obs_shape, hidden_sizes=(8, 8), cnn_channels=(3,))
    found = kernels(params)
    assert len(found) == 2 * (2 + (len(obs_shape) == 3)) + 2
    for name, kernel in found.items():
        gain = {"policy/kernel": 0.01, "value/kernel": 1.0}.get(name, math.sqrt(2))
        matrix = kernel.reshape(-1, kernel.shape[-1])
        if matrix.shape[0] < matrix.shape[1]:
            matrix = matrix.T
        gram = gain**2 * np.eye(matrix.shape[1])
        np.testing.assert_allclose(matrix.T @ matrix, gram, atol=1e-6 * gain**2, err_msg=name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "bias":
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_the_first_policy_is_nearly_uniform():
    network, params, obs = init((4,), hidden_sizes=(8,))
    logits, value, _ = apply(network, params, 10 * obs)
    np.testing.assert_allclose(jax.nn.softmax(logits), np.full((N, 3), 1 / 3), atol=0.02)
    assert np.abs(logits).max() > 0  # and not constant
    assert np.abs(value).max() > 0.1  # only the policy head is small


def test_keys_give_other_parameters():
    _, params, _ = init((4,), hidden_sizes=(8,))
    _, other, _ = init((4,), hidden_sizes=(8,), seed=5)
    for name, kernel in kernels(params).items():
        assert np.abs(kernel - kernels(other)[name]).max() > 1e-4, name


def test_seeds_side_by_side_are_initialised_one_after_the_other():
    # Two batched QR decompositions at once can wait for each other for ever where the CPU backend
    # has two threads (jaxlib 0.10.2): jit(vmap(init)) hung in lapack_sorgqr_ffi.
    network, params, obs = init((4,), hidden_sizes=(8,))
    keys = jax.random.split(jax.random.key(2), 3)
    vmapped = jax.jit(jax.vmap(network.init, in_axes=(0, None)))
    text = vmapped.lower(keys, obs).as_text()
    decompositions = re.findall(r"custom_call @lapack_\w+\(.*", text)
    assert decompositions  # of one matrix each
    assert not [line for line in decompositions if re.search(r"tensor<3x\d+x\d+xf32>", line)]
    shapes = jax.tree.map(lambda x: (3, *x.shape), params)
    found = jax.eval_shape(vmapped, keys, obs)
    assert jax.tree.map(lambda x: x.shape, found) == shapes


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_against_numpy(activation):
    settings = {"hidden_sizes": (8, 8), "shared_torso": True}
    _, params, obs = init((4,), **settings)
    network = make_network(
        obs_space((4,)),
        ACTIONS["discrete"],
        with_settings(NetworkConfig(), activation=activation, **settings),
    )
    params = jax.tree.map(lambda x: x + jnp.full_like(x, 0.1), params)  # biases matter too
    erf = np.vectorize(math.erf)
    activate = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    }[activation]

    def dense(x, layer):
        return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])

    x = np.float64(obs)
    for layer in ("Dense_0", "Dense_1"):
        x = activate(dense(x, params["actor"][layer]))
    logits, value, _ = apply(network, params, obs)
    # jax.nn.gelu is the tanh approximation, good to 5e-4 a unit.
    tolerance = 5e-3 if activation == "gelu" else 1e-5
    np.testing.assert_allclose(logits, dense(x, params["policy"]), atol=tolerance)
    np.testing.assert_allclose(value, dense(x, params["value"])[:, 0], atol=tolerance)


def test_cnn_against_numpy():
    network, params, obs = init((7, 6, 2), hidden_sizes=(8, 8), cnn_channels=(3,))
    obs64 = np.float64(obs)

    def layers(name):
        """Kernels `[..., out]` and biases in the order of the layers: 18, 60 and 8 inputs."""
        parts = [(np.float64(x["kernel"]), np.float64(x["bias"])) for x in params[name].values()]
        order = {18 * 3: 0, 60 * 8: 1, 8 * 8: 2}
        return sorted(parts, key=lambda part: order[part[0].size])

    def features(name):
        (kernel, bias), *dense = layers(name)
        kernel = kernel.reshape(3, 3, 2, 3)
        x = np.zeros((N, 5, 4, 3))
        for n, i, j, c in np.ndindex(x.shape):
            x[n, i, j, c] = (obs64[n, i : i + 3, j : j + 3] * kernel[..., c]).sum() + bias[c]
        x = np.tanh(x).reshape(N, -1)
        for kernel, bias in dense:
            x = np.tanh(x @ kernel + bias)
        return x

    logits, value, _ = apply(network, params, obs)
    policy, critic = params["policy"], params["value"]
    expected = features("actor") @ np.float64(policy["kernel"])
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    expected = features("critic") @ np.float64(critic["kernel"])[:, 0]
    np.testing.assert_allclose(value, expected, atol=1e-5)


def test_strides_and_larger_kernels_against_numpy():
    """4 x 4 by 3 pixels, then 2 x 2 by 1; what is left over at an edge is unused."""
    settings = {"cnn_channels": (3, 4), "cnn_kernel_sizes": (4, 2), "cnn_strides": (3, 1)}
    network, params, obs = init((12, 9, 2), hidden_sizes=(5,), shared_torso=True, **settings)
    x = np.float64(obs)
    for layer, size, stride, shape in (("Dense_0", 4, 3, (3, 2, 3)), ("Dense_1", 2, 1, (2, 1, 4))):
        kernel = np.float64(params["actor"][layer]["kernel"])
        kernel, out = kernel.reshape(size, size, -1, shape[-1]), np.zeros((N, *shape))
        for n, i, j, c in np.ndindex(out.shape):
            row, column = stride * i, stride * j
            window = x[n, row : row + size, column : column + size]
            out[n, i, j, c] = (window * kernel[..., c]).sum()
        x = np.tanh(out + np.float64(params["actor"][layer]["bias"]))
    dense = params["actor"]["Dense_2"]
    x = np.tanh(x.reshape(N, -1) @ np.float64(dense["kernel"]) + np.float64(dense["bias"]))
    logits, value, _ = apply(network, params, obs)
    np.testing.assert_allclose(logits, x @ np.float64(params["policy"]["kernel"]), atol=1e-6)
    np.testing.assert_allclose(value, x @ np.float64(params["value"]["kernel"])[:, 0], atol=1e-5)


def test_rows_do_not_see_each_other():
    network, params, obs = init((7, 6, 2), hidden_sizes=(8, 8), cnn_channels=(3,))
    logits, value, _ = apply(network, params, obs)
    one_logits, one_value, _ = apply(network, params, obs[2:3])
    np.testing.assert_allclose(one_logits[0], logits[2], atol=1e-6)
    np.testing.assert_allclose(one_value[0], value[2], atol=1e-5)


def has_convolutions(obs_shape, torso):
    params = param_shapes(obs_shape, torso=torso, hidden_sizes=(8,), cnn_channels=(3,))
    return {len(params[name]) for name in ("actor", "critic")} == {2}  # layers


def test_auto_takes_a_cnn_for_images_only():
    assert has_convolutions((7, 6, 2), "auto")
    assert has_convolutions((7, 6, 2), "cnn")
    assert not has_convolutions((7, 6, 2), "mlp")
    assert not has_convolutions((4,), "auto")
    assert not has_convolutions((4, 3), "auto")


@pytest.mark.parametrize(
    ("obs_shape", "settings", "message"),
    [
        (
            (4,),
            {"torso": "cnn"},
            "torso = 'cnn': observations of shape (4,) are not [height, width, channels]; "
            "use torso = 'mlp'",
        ),
        (
            (6, 5, 1),
            {"cnn_channels": (8, 8, 8)},
            "cnn_channels = (8, 8, 8): 3 convolutions of 3 x 3 need more than 6 pixels each "
            "way, but observations are (6, 5, 1); use fewer convolutions, or torso = 'mlp'",
        ),
        (
            (12, 11, 1),
            {"cnn_channels": (8, 8), "cnn_kernel_sizes": (8, 2), "cnn_strides": (4, 2)},
            "cnn_channels = (8, 8): 2 convolutions of 8 x 8, 2 x 2 with cnn_strides = (4, 2) need "
            "more than 11 pixels each way, but observations are (12, 11, 1); use fewer "
            "convolutions, or torso = 'mlp'",
        ),
        (
            (2, 9, 1),
            {},
            "cnn_channels = (16,): 1 convolutions of 3 x 3 need more than 2 pixels each way, "
            "but observations are (2, 9, 1); use fewer convolutions, or torso = 'mlp'",
        ),
    ],
)
def test_a_cnn_that_does_not_fit_is_refused(obs_shape, settings, message):
    with pytest.raises(ConfigError) as caught:
        make_network(
            obs_space(obs_shape), ACTIONS["discrete"], with_settings(NetworkConfig(), **settings)
        )
    assert str(caught.value) == message


def test_as_many_convolutions_as_fit_work():
    params = param_shapes((5, 7, 1), cnn_channels=(2, 2), hidden_sizes=(4,))
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(params["actor"]))
    # Kernels 3 * 3 * 1 * 2 and 3 * 3 * 2 * 2, 1 x 3 pixels of 2 channels are left for 4 units.
    assert sizes == sorted([18, 2, 36, 2, 1 * 3 * 2 * 4, 4])


def test_as_few_pixels_as_convolutions_need_are_enough():
    settings = {"cnn_channels": (2, 2), "cnn_kernel_sizes": (8, 2), "cnn_strides": (4, 2)}
    params = param_shapes((12, 12, 1), **settings, hidden_sizes=(4,))
    assert params["actor"]["Dense_2"]["kernel"].shape == (2, 4)  # one pixel is left


IMAGE = Box(0, 255, (2, 2, 1), "uint8")
PREPARED = {
    "discrete": (Discrete(3), np.int32([2, 0]), [[0, 0, 1], [1, 0, 0]]),
    "multi_discrete": (
        MultiDiscrete((2, 3)),
        np.int32([[1, 0], [0, 2]]),
        [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]],
    ),
    "uint8": (IMAGE, np.uint8([[[[0], [51]], [[102], [255]]]]), [[[[0], [0.2]], [[0.4], [1]]]]),
    "bool": (Box(0, 1, (2,), "bool"), np.array([[True, False]]), [[1, 0]]),
    "int32": (Box(-9, 9, (2,), "int32"), np.int32([[-3, 9]]), [[-3, 9]]),
    "scalar": (Box(-1.0, 1.0, ()), np.float32([0.5, -0.5]), [[0.5], [-0.5]]),
    "scalar_uint8": (Box(0, 255, (), "uint8"), np.uint8([51, 0]), [[0.2], [0]]),
    "float32": (Box(-np.inf, np.inf, (2,)), np.float32([[3.5, -400]]), [[3.5, -400]]),
}


@pytest.mark.parametrize("case", PREPARED)
def test_prepared_observations(case):
    space, obs, expected = PREPARED[case]
    actual = prepare_observation(space, jnp.asarray(obs))
    assert actual.dtype == jnp.float32
    assert actual.shape == prepared_shapes(space, len(obs)).shape
    np.testing.assert_allclose(actual, np.array(expected), rtol=1e-6)


class OwnModule(nn.Module):
    """A module of the user's own, of plain layers."""

    @nn.compact
    def __call__(self, obs):
        x = nn.swish(nn.Dense(5, kernel_init=nn.initializers.ones)(obs))
        init = nn.initializers.constant(0.5)
        return nn.Dense(3, kernel_init=init)(x), nn.Dense(1, kernel_init=init)(x)[:, 0]


class MixedDtypes(nn.Module):
    """A module that JAX's strict promotion would refuse: float32 with int32."""

    @nn.compact
    def __call__(self, obs):
        x = nn.Dense(3, kernel_init=nn.initializers.ones)(obs)
        return x * jnp.arange(3), x.sum(-1)


class Normalised(nn.Module):
    """A module with state besides its parameters."""

    @nn.compact
    def __call__(self, obs):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(3)(obs))
        return x, x[:, 0]


def test_a_module_of_your_own():
    module, obs = OwnModule(), jnp.linspace(-1, 1, N * 4).reshape(N, 4)
    network = from_module(module)
    params = network.init(jax.random.key(0), obs)
    logits, value, carry = apply(network, params, obs)
    expected_logits, expected_value = module.apply({"params": params}, obs)
    np.testing.assert_array_equal(logits, expected_logits)
    np.testing.assert_array_equal(value, expected_value)
    assert (logits.shape, value.shape, carry) == ((N, 3), (N,), ())


def test_a_module_of_your_own_runs_under_the_default_promotion_rules():
    network = from_module(MixedDtypes())
    params = network.init(jax.random.key(0), jnp.ones((N, 4)))
    logits, _, _ = apply(network, params, jnp.ones((N, 4)))
    np.testing.assert_array_equal(logits, [[0, 4, 8]] * N)


def test_a_module_with_other_variables_is_refused():
    network = from_module(Normalised())
    with pytest.raises(ConfigError) as caught:
        network.init(jax.random.key(0), jnp.ones((N, 4)))
    assert str(caught.value) == (
        "network = Normalised: has variables in batch_stats; only params are supported"
    )


def test_the_carry_passes_through():
    network, params, obs = init((4,), hidden_sizes=(8,))
    carry = {"memory": jnp.ones((N, 2))}
    assert network.apply(params, carry, obs, None)[2] is carry


def plain_network(outputs):
    """A network of one matrix, whose `apply` gives what `outputs(logits, value, carry)` makes."""

    def apply(params, carry, obs, episode_start):
        found = obs @ params
        return outputs(found[:, :2], found[:, 2], carry)

    def init(key, obs):
        return jax.random.normal(key, (obs.shape[-1], 3))

    return jaxdrl.Network(lambda num_envs: jnp.zeros((num_envs, 4)), init, apply)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda logits, value, carry: (logits, value), "apply returns 2 values; must return "),
        (lambda logits, value, carry: logits, "apply returns a .*; must return "),
        (
            lambda logits, value, carry: (logits, (value,), carry),
            "the value is a tuple; must be an",
        ),
        (
            lambda logits, value, carry: ((logits,), value, carry),
            "policy_outputs are a tuple; must",
        ),
        (
            lambda logits, value, carry: (logits, value, ()),
            "apply returns a carry of .*; it must be",
        ),
        (
            lambda logits, value, carry: (logits, value, carry[:1]),
            r"apply returns a carry of float32\[1, 4\]; it mus",
        ),
    ],
)
def test_what_apply_gives_is_checked(outputs, message):
    env = jaxdrl.make("CartPole-v1")
    jaxdrl.ppo(env, PPOConfig(), network=plain_network(lambda *found: found))
    with pytest.raises(ConfigError, match=f"^network: {message}"):
        jaxdrl.ppo(env, PPOConfig(), network=plain_network(outputs))


def test_continuous_actions_want_a_pair():
    env = jaxdrl.make("MountainCarContinuous-v0")
    with pytest.raises(ConfigError, match=r"are an array; must be \(mean, log_std\)"):
        jaxdrl.ppo(env, PPOConfig(), network=plain_network(lambda *found: found))
