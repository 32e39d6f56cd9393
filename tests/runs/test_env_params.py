"""Parameters of environments of any kind: how they are written, compared and put back."""

import json
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxdrl
from jaxdrl.errors import ConfigError
from jaxdrl.runs import env_params
from probe_environments import constant_reward
from small_runs import PPO, read, run_quietly


class Wind(NamedTuple):
    speed: Any
    gusts: Any


@struct.dataclass
class Ground:
    height: Any
    name: str = struct.field(pytree_node=False, default="sand")


@struct.dataclass
class Params:
    gravity: float
    steps: int
    key: Any
    ground: Ground
    wind: Wind
    tables: Any
    nothing: None = None


def params(**changes):
    return Params(
        **{
            "gravity": 9.5,
            "steps": 12,
            "key": jax.random.key(3),
            "ground": Ground(jnp.asarray([[1.0, 2.0]], jnp.bfloat16)),
            "wind": Wind(np.float32(0.1), jnp.array([True, False])),
            "tables": {"large": jnp.arange(1000.0), "small": [jnp.arange(3), float("inf")]},
        }
        | changes
    )


SHOWN = {
    "gravity": 9.5,
    "steps": 12,
    "ground.name": "sand",
    "wind.speed": float(np.float32(0.1)),
    "wind.gusts": [True, False],
    "tables['small'][0]": [0, 1, 2],
    "nothing": None,
}


def stored(tree):
    """What a run directory gives back of it."""
    return json.loads(json.dumps(env_params.describe(tree), allow_nan=False))


def test_small_plain_values_are_written_and_others_described():
    found = stored(params())
    described = {name: value for name, value in found.items() if isinstance(value, dict)}
    assert {name: value for name, value in found.items() if name not in described} == SHOWN
    assert {name: (v["dtype"], v["shape"]) for name, v in described.items()} == {
        "key": ("key<fry>", []),
        "ground.height": ("bfloat16", [1, 2]),
        "tables['large']": ("float32", [1000]),
        "tables['small'][1]": ("float64", []),
    }


def test_a_million_numbers_are_described_in_few_bytes():
    table = np.arange(1_000_000.0, dtype=np.float32)
    text = json.dumps(env_params.describe(table))
    assert len(text) < 200
    (found,) = json.loads(text).values()
    other = table.copy()
    other[-1] += 1
    assert env_params.describe(other)["value"]["sha256"] != found["sha256"]


@pytest.mark.parametrize("tree", [(), {}, 3.0, np.arange(4), (1, [None, "x"]), jax.random.key(1)])
def test_any_tree_is_the_same_when_it_is_given_again(tree):
    env_params.require_same(tree, stored(tree))
    again = env_params.restored(tree, stored(tree))
    assert jax.tree.structure(again) == jax.tree.structure(tree)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gravity": 9.6}, "gravity is 9.6, and the run was made with 9.5;"),
        ({"steps": 13}, "steps is 13,"),
        ({"key": jax.random.key(4)}, "key is key<fry>[] of digest "),
        ({"ground": Ground(jnp.ones((1, 2), jnp.bfloat16))}, "ground.height is bfloat16[1, 2] of"),
        ({"ground": Ground(params().ground.height, "rock")}, "ground.name is 'rock',"),
        ({"wind": Wind(0.2, jnp.array([True, False]))}, "wind.speed is 0.2,"),
        ({"wind": Wind(np.float32(0.1), jnp.array([True, True]))}, "wind.gusts is [True, True],"),
        ({"tables": {"large": jnp.ones(1000)}}, "tables['large'] is float32[1000] of digest "),
        ({"tables": {"large": jnp.arange(1001.0)}}, "tables['large'] is float32[1001] of digest "),
        ({"tables": {"large": jnp.arange(1000)}}, "tables['large'] is int32[1000] of digest "),
        ({"tables": {}}, "has no parameter tables['large'], which the run was made with"),
        ({"nothing": 1}, "nothing is 1, and the run was made with None;"),
    ],
)
def test_an_environment_that_is_given_again_has_the_same_ones(changes, words):
    before = stored(params())
    with pytest.raises(ConfigError) as caught:
        env_params.require_same(params(**changes), before)
    assert words in str(caught.value)
    assert str(caught.value).endswith("; pass the same environment again")


def test_stored_values_come_before_newer_defaults():
    newer = params(gravity=9.8, steps=20, wind=Wind(0.5, jnp.array([False, False])))
    found = env_params.restored(newer, stored(params()))
    assert (found.gravity, found.steps) == (9.5, 12)
    assert found.wind.speed == float(np.float32(0.1))
    np.testing.assert_array_equal(found.wind.gusts, [True, False])
    np.testing.assert_array_equal(found.tables["large"], params().tables["large"])


def test_a_newer_table_is_refused_where_only_a_digest_is_known():
    newer = params(tables={"large": jnp.zeros(1000), "small": [jnp.arange(3), float("inf")]})
    with pytest.raises(ConfigError, match=r"its parameter tables\['large'\] is float32\[1000\]"):
        env_params.restored(newer, stored(params()))


def test_a_table_that_was_written_out_before_still_counts():
    before = stored(params()) | {"tables['large']": np.arange(1000.0).tolist()}
    env_params.require_same(params(), before)
    with pytest.raises(ConfigError, match="large"):
        env_params.require_same(params(tables={"large": jnp.zeros(1000)}), before)


def test_numbers_that_were_written_as_null_are_not_compared():
    env_params.require_same({"low": np.array([-np.inf, 1.0])}, {"['low']": [None, 1.0]})
    env_params.require_same(float("inf"), {"value": None})
    assert env_params.restored(float("inf"), {"value": None}) == float("inf")


def test_a_run_takes_parameters_of_any_kind(tmp_path):
    env = constant_reward(4, "terminated")._replace(default_params=params())
    changed = env._replace(default_params=params(tables={"large": jnp.zeros(1000), "small": []}))
    experiment = jaxdrl.Experiment(
        "mine", total_env_steps=128, run_dir=tmp_path / "run", algorithm=PPO
    )
    run_quietly(experiment, env=env)
    assert read(tmp_path / "run", "config.json")["env_params"] == stored(params())
    restored = jaxdrl.restore(tmp_path / "run", env=env).env.default_params
    np.testing.assert_array_equal(restored.tables["large"], params().tables["large"])
    assert jaxdrl.evaluate_run(tmp_path / "run", env=env, num_episodes=2).evaluation.num_episodes
    longer = partial(jaxdrl.resume, total_env_steps=256)
    for verb in (jaxdrl.restore, jaxdrl.evaluate_run, longer):
        with pytest.raises(ConfigError, match=r"^env: its parameter tables\['large'\] is float32"):
            verb(tmp_path / "run", env=changed)
