"""The start-up check of an environment's types."""

import jax
import jax.numpy as jnp
import pytest

import jaxdrl
from jaxdrl import spaces
from jaxdrl.envs import Environment
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError
from probe_environments import constant_reward, counter


def changed(**changes):
    """`constant_reward(3, ...)` with parts of the results of reset and step replaced.

    Names are the results' own; `reset_obs` and `reset_state` are those of the reset.
    """
    env = constant_reward(3, "terminated")

    def reset(key, params):
        obs, state = env.reset(key, params)
        return changes.get("reset_obs", obs), changes.get("reset_state", state)

    def step(key, state, action, params):
        del state
        results = env.step(key, jnp.zeros((), jnp.int32), action, params)
        names = ("obs", "state", "reward", "terminated", "truncated", "info")
        return tuple(changes.get(name, x) for name, x in zip(names, results, strict=True))

    return env._replace(reset=reset, step=step, name="changed")


INT, FLOAT = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"state": {"a": INT}, "reset_state": {"b": INT}}, ("state", "structure", "'a'", "'b'")),
        ({"state": (INT, INT)}, ("state", "structure")),
        ({"state": {"a": FLOAT}, "reset_state": {"a": INT}}, ("state['a']", "int32[]", "float32")),
        ({"state": jnp.zeros((2,), jnp.int32)}, ("state", "int32[]", "int32[2]")),
        ({"obs": jnp.zeros((3,), jnp.int32)}, ("observation", "float32[3]", "int32[3]")),
        ({"obs": jnp.zeros((4,), jnp.float32)}, ("observation", "float32[3]", "float32[4]")),
        ({"reward": INT}, ("reward", "int32", "float32")),
        ({"reward": jnp.zeros((1,), jnp.float32)}, ("reward", "(1,)", "scalar of float32")),
        ({"terminated": FLOAT}, ("terminated", "float32", "scalar of bool")),
        ({"truncated": INT}, ("truncated", "int32", "scalar of bool")),
        ({"truncated": jnp.zeros((2,), jnp.bool)}, ("truncated", "(2,)", "scalar of bool")),
        (
            {"obs": jnp.zeros((4,)), "reset_obs": jnp.zeros((4,))},
            ("observation has shape (4,)", "observation_space says (3,)"),
        ),
    ],
)
def test_check_types_says_what_differs(changes, parts):
    with pytest.raises(ConfigError) as error:
        check_types(changed(**changes))
    message = str(error.value)
    assert message.startswith("changed: ")
    assert all(part in message for part in parts), message


def test_check_types_passes_what_only_differs_in_weak_types():
    check_types(changed())
    check_types(changed(reset_state=jnp.asarray(0), state=INT))
    check_types(changed(reward=jnp.asarray(1.0)))


def test_check_types_runs_nothing():
    def forbidden(*_):
        raise AssertionError("ran")

    env = counter(3)

    def reset(key, params):
        jax.debug.callback(forbidden)
        return env.reset(key, params)

    check_types(env._replace(reset=reset))
    jax.effects_barrier()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": lambda *_: (0.0,) * 5}, r"step returns 5 values; must return \(obs, env_s"),
        ({"step": lambda *_: jnp.zeros(6)}, r"step returns a ShapeDtypeStruct; must return \("),
        ({"reset": lambda *_: jnp.zeros(2)}, r"reset returns a ShapeDtypeStruct; must return "),
        ({"reset": lambda *_: (0.0, 0.0, {})}, r"reset returns 3 values; must return \(obs, env"),
    ],
)
def test_a_step_or_reset_of_other_parts_is_refused(change, message):
    env = constant_reward(3, "terminated")._replace(**change)
    for refuse in (check_types, lambda env: jaxdrl.ppo(env, jaxdrl.PPOConfig())):
        with pytest.raises(ConfigError, match=f"^{env.name}: {message}"):
            refuse(env)


@pytest.mark.parametrize("part", ["observations", "actions"])
def test_spaces_without_a_number_are_refused(part):
    empty, one = spaces.Box(-1.0, 1.0, (0,)), spaces.Box(-1.0, 1.0, (1,))
    both = (empty, one) if part == "observations" else (one, empty)
    env = Environment("empty", lambda key, params: (), lambda *args: (), *both)
    with pytest.raises(ConfigError, match=rf"^empty: {part} of .*\(0,\).* contain no number;"):
        check_types(env)


def test_an_environment_of_other_dtypes_under_x64_says_so():
    env = jaxdrl.make("Pendulum-v1")
    with jax.enable_x64(True), pytest.raises(ConfigError, match="JAX_ENABLE_X64 is on: train with"):
        check_types(env)
