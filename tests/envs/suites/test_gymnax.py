"""The gymnax adapter against gymnax itself, and what it refuses."""

from functools import partial

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxdrl
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs import from_gymnax, vector
from jaxdrl.envs.protocol import strong_types
from jaxdrl.envs.suites.gymnax import convert_space
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError

DOWNLOADING = "MNISTBandit-bsuite"
REGISTERED = [name for name in gymnax.registered_envs if name != DOWNLOADING]
NUM_ENVS = 3
# Half the time to compile.
QUICK = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize("name", REGISTERED)
def test_every_registered_environment_steps(name):
    env = jaxdrl.make(name)
    check_types(env)
    assert env.name
    assert env.max_episode_steps >= 1

    def step(keys, env_state, actions):
        mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        return strong_types(mapped(keys, env_state, actions, env.default_params)[:5])

    keys = jax.vmap(jax.random.key)
    reset = jax.jit(partial(vector.reset, env), compiler_options=QUICK)
    obs, env_state = reset(keys(jnp.arange(NUM_ENVS)))
    step = jax.jit(step, compiler_options=QUICK)
    rng = np.random.default_rng(0)
    for i in range(3):
        actions = np.stack([some_action(rng, env.action_space) for _ in range(NUM_ENVS)])
        assert all(env.action_space.contains(action) for action in actions)
        assert obs.shape == (NUM_ENVS, *env.observation_space.shape)
        assert np.isfinite(obs).all()
        before = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), (obs, env_state))
        step_keys = keys(jnp.arange(NUM_ENVS) + NUM_ENVS * (i + 1))
        obs, env_state, reward, terminated, truncated = step(step_keys, env_state, actions)
        after = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), (obs, env_state))
        assert before == after
        assert (reward.shape, reward.dtype) == ((NUM_ENVS,), jnp.float32)
        assert np.isfinite(reward).all()
        for flag in (terminated, truncated):
            assert (flag.shape, flag.dtype) == ((NUM_ENVS,), jnp.bool)
        assert not (terminated & truncated).any()


def some_action(rng, space):
    if isinstance(space, jaxdrl.spaces.Discrete):
        return np.int32(rng.integers(space.n))
    return rng.uniform(np.maximum(space.low, -1), np.minimum(space.high, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("CartPole-v1", {"max_steps_in_episode": 20}),
        ("Pendulum-v1", {"max_steps_in_episode": 9}),
        ("Breakout-MinAtar", {"max_steps_in_episode": 15}),
    ],
)
def test_agrees_with_the_step_of_gymnax(name, params):
    """Both from the same state at each step: that of gymnax, which resets by itself."""
    env = jaxdrl.make(name, **params)
    plain, plain_params = gymnax.make(name)
    plain_params = plain_params.replace(**params)
    num_envs, num_steps = 8, 60
    rng = np.random.default_rng(0)
    step_data = rng.integers(2**32, size=(num_steps, num_envs, 2), dtype=np.uint32)
    actions = np.stack(
        [[some_action(rng, env.action_space) for _ in range(num_envs)] for _ in range(num_steps)]
    )

    def one_step(env_state, inputs):
        key_data, action = inputs
        mapped = jax.vmap(plain.step, in_axes=(0, 0, 0, None))
        with default_promotion():
            theirs = mapped(jax.random.wrap_key_data(key_data), env_state, action, plain_params)
        step_keys = jax.vmap(jax.random.split)(jax.random.wrap_key_data(key_data))[:, 0]
        mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        ours = mapped(step_keys, env_state, action, env.default_params)
        return strong_types(theirs[1]), (theirs, ours)

    @partial(jax.jit, compiler_options=QUICK)
    def run(keys, key_data, actions):
        with default_promotion():
            _, env_state = jax.vmap(plain.reset, in_axes=(0, None))(keys, plain_params)
        return jax.lax.scan(one_step, strong_types(env_state), (key_data, actions))[1]

    theirs, ours = jax.device_get(
        run(jax.random.split(jax.random.key(0), num_envs), step_data, actions)
    )
    _, _, their_reward, their_terminated, their_truncated, their_info = theirs
    obs, _, reward, terminated, truncated, _ = ours
    # The compiler may round the same formula differently in its two places.
    close = partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6)
    close(obs, their_info["final_observation"])
    close(reward, their_reward)
    np.testing.assert_array_equal(terminated, their_terminated)
    np.testing.assert_array_equal(truncated, their_truncated & ~their_terminated)
    assert truncated.sum() > 5
    assert terminated.any() or name == "Pendulum-v1"


def test_where_both_ends_come_together_the_episode_is_terminated():
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=10)
    _, env_state = env.reset(jax.random.key(0), env.default_params)

    @jax.jit
    def flags(x, time):
        state = env_state.replace(x=x, x_dot=jnp.ones_like(x), time=time)
        key, action = jax.random.key(1), jnp.zeros((), jnp.int32)
        return env.step(key, state, action, env.default_params)[3:5]

    inside, outside = jnp.float32(0.0), jnp.float32(2.39)
    early, last = jnp.int32(3), jnp.int32(9)
    assert flags(inside, early) == (False, False)
    assert flags(inside, last) == (False, True)
    assert flags(outside, early) == (True, False)
    assert flags(outside, last) == (True, False)


def test_parameters_reach_the_environment():
    env = jaxdrl.make("Pendulum-v1", max_steps_in_episode=7, max_torque=1.5)
    assert env.name == "Pendulum-v1"
    assert env.max_episode_steps == 7
    assert env.action_space == jaxdrl.spaces.Box(-1.5, 1.5, (1,))
    step = jax.jit(env.step)
    _, env_state = env.reset(jax.random.key(0), env.default_params)
    truncations = []
    for _ in range(7):
        _, env_state, _, _, truncated, _ = step(
            jax.random.key(1), env_state, jnp.zeros((1,)), env.default_params
        )
        truncations.append(bool(truncated))
    assert truncations == [False] * 6 + [True]


def test_defaults_are_those_of_gymnax():
    env = jaxdrl.make("CartPole-v1")
    assert env.max_episode_steps == 500
    assert env.action_space == jaxdrl.spaces.Discrete(2)
    assert env.default_params == gymnax.make("CartPole-v1")[1]


def test_constructor_arguments_and_parameters_together():
    assert jaxdrl.make("DeepSea-bsuite").observation_space.shape == (8, 8)
    env = jaxdrl.make("DeepSea-bsuite", size=5)
    assert env.observation_space.shape == (5, 5)
    assert env.max_episode_steps == 5  # which gymnax derives from the size
    env = jaxdrl.make("DeepSea-bsuite", size=5, max_steps_in_episode=3, unscaled_move_cost=0.5)
    assert env.observation_space.shape == (5, 5)
    assert env.max_episode_steps == 3
    assert env.default_params.unscaled_move_cost == 0.5


@pytest.mark.parametrize(
    ("name", "params", "parts"),
    [
        ("CartPole-v2", {}, ("env = 'CartPole-v2'", "CartPole-v1")),
        ("cartpole", {}, ("env = 'cartpole'", "CartPole-v1")),
        ("zzzz", {}, ("env = 'zzzz'", "known names", "CartPole-v1", "Breakout-MinAtar")),
        ("", {}, ("env = ''", "CartPole-v1")),
        (3, {}, ("env = 3", "CartPole-v1")),
        (DOWNLOADING, {}, (DOWNLOADING, "MNIST", "downloads", "SimpleBandit-bsuite")),
        ("MNISTBandit", {}, ("env = 'MNISTBandit'", "SimpleBandit-bsuite")),
        (
            "CartPole-v1",
            {"max_step_in_episode": 7},
            ("env_params.max_step_in_episode = 7", "CartPole-v1", "max_steps_in_episode"),
        ),
        ("CartPole-v1", {"size": 7}, ("env_params.size = 7", "CartPole-v1")),
        ("DeepSea-bsuite", {"sise": 7}, ("env_params.sise = 7", "nearest: size")),
    ],
)
def test_refusals_name_the_field_the_value_and_what_works(name, params, parts):
    with pytest.raises(ConfigError) as error:
        jaxdrl.make(name, **params)
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_a_name_that_is_suggested_can_be_made():
    with pytest.raises(ConfigError) as error:
        jaxdrl.make("MNISTBandit-bsuit")
    assert DOWNLOADING not in str(error.value).split(";")[1]


@struct.dataclass
class Params(environment.EnvParams):
    """Parameters of `Own`."""

    max_steps_in_episode: int = 4
    bonus: float = 0.5


class Own(environment.Environment):
    """An environment of the user's, written as gymnax allows: loose types, a Tuple of actions."""

    spaces = (
        spaces.Box(jnp.array([-1.0, -2.0]), jnp.array([1.0, jnp.inf]), (2,)),
        spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]),
    )

    def __init__(self, **changed_spaces):
        self.changed_spaces = changed_spaces

    @property
    def default_params(self):
        """Those of the class."""
        return Params()

    def observation_space(self, params):
        """A Box with array bounds, or what the constructor was given."""
        return self.changed_spaces.get("observation", self.spaces[0])

    def action_space(self, params):
        """A Tuple, or what the constructor was given."""
        return self.changed_spaces.get("action", self.spaces[1])

    def reset_env(self, key, params):
        """Starts at time 0, a Python int."""
        return jnp.array([0.0, 1.0]), environment.EnvState(time=0)

    def step_env(self, key, state, action, params):
        """Rewards 10 a + b + bonus for the action `(a, b)`, promoting an int to a float."""
        assert isinstance(action, tuple)
        first, second = action
        state = state.replace(time=state.time + 1)
        reward = 10 * first + second + params.bonus
        return jnp.array([state.time, 1.0]), state, reward, jnp.array(False), {}


def test_an_environment_of_ones_own_takes_a_tuple_of_actions():
    env = from_gymnax(Own())
    check_types(env)
    assert env.name == "Own"
    assert env.max_episode_steps == 4
    assert env.action_space == jaxdrl.spaces.MultiDiscrete((2, 3))
    assert env.observation_space == jaxdrl.spaces.Box([-1.0, -2.0], [1.0, np.inf], (2,))

    @jax.jit
    def play(actions):
        keys = jax.random.split(jax.random.key(0), 6)
        _, env_state = vector.reset(env, keys)
        step_keys, reset_keys = jax.random.split(jax.random.key(1), (2, 6))
        return vector.step(env, step_keys, reset_keys, env_state, actions)

    actions = np.array([(a, b) for a in range(2) for b in range(3)], np.int32)
    stepped = play(actions)
    assert stepped.reward.dtype == jnp.float32
    assert stepped.reward.tolist() == [0.5, 1.5, 2.5, 10.5, 11.5, 12.5]


def test_parameters_of_ones_own_environment():
    env = from_gymnax(Own(), Params(max_steps_in_episode=9, bonus=2.0))
    assert env.max_episode_steps == 9
    _, env_state = env.reset(jax.random.key(0), env.default_params)
    action = jnp.array([1, 1], jnp.int32)
    reward = env.step(jax.random.key(1), env_state, action, env.default_params)[2]
    assert reward == 13.0


def test_an_environment_without_a_limit_has_none():
    @struct.dataclass
    class NoLimit:
        pass

    assert from_gymnax(Own(), NoLimit()).max_episode_steps is None


UNSUPPORTED = [
    spaces.Dict({"x": spaces.Discrete(2)}),
    spaces.Tuple([spaces.Discrete(2), spaces.Box(0.0, 1.0, (1,))]),
    spaces.Tuple([spaces.Tuple([spaces.Discrete(2)])]),
]


@pytest.mark.parametrize("which", ["observation", "action"])
@pytest.mark.parametrize("space", UNSUPPORTED, ids=["dict", "mixed", "nested"])
def test_spaces_without_a_counterpart_are_refused_by_name(which, space):
    with pytest.raises(TypeError) as error:
        from_gymnax(Own(**{which: space}))
    message = str(error.value)
    parts = (
        f"{which} space of Own",
        repr(space),
        type(space).__name__,
        "Discrete, Box and a Tuple",
    )
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Discrete(3), jaxdrl.spaces.Discrete(3)),
        (spaces.Box(-1.0, 2.0, ()), jaxdrl.spaces.Box(-1.0, 2.0, ())),
        (
            spaces.Box(jnp.array([-1.0, 0.0]), jnp.array([2.0, 3.0]), (2,)),
            jaxdrl.spaces.Box([-1.0, 0.0], [2.0, 3.0], (2,)),
        ),
        (spaces.Box(0, 1, (2, 2), jnp.bool_), jaxdrl.spaces.Box(0, 1, (2, 2), "bool")),
        (spaces.Box(0, 255, (4, 4), jnp.uint8), jaxdrl.spaces.Box(0, 255, (4, 4), "uint8")),
        (spaces.Tuple([spaces.Discrete(4)]), jaxdrl.spaces.MultiDiscrete((4,))),
    ],
    ids=["discrete", "scalar box", "array bounds", "bool", "uint8", "tuple"],
)
def test_spaces_with_a_counterpart(space, expected):
    assert convert_space(space, "space") == expected


def test_strict_promotion_stays_on_outside_the_environment():
    env = jaxdrl.make("CartPole-v1")
    jax.eval_shape(partial(vector.reset, env), jax.random.split(jax.random.key(0), 2))
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.ones((), jnp.int32) + jnp.ones((), jnp.float32)
    with pytest.raises(ValueError, match="rank"):
        jnp.ones((2,)) + jnp.ones((2, 2))
