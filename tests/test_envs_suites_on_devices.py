"""One task of each suite: equal bits on any number of devices, and from a checkpoint on."""

from importlib.util import find_spec

import jax
import pytest

import jaxdrl
from jaxdrl import PPOConfig, checkpoint
from jaxdrl.envs import suites
from jaxdrl.metrics import sha256
from jaxdrl.sharding import place

FULLY_OPTIMIZED = True

TASKS = {
    "jumanji": ("Snake-v1", {"num_rows": 5, "num_cols": 5, "max_episode_steps": 6}),
    "navix": ("Navix-Empty-Random-5x5-v0", {"max_episode_steps": 6}),
    "xminigrid": ("MiniGrid-EmptyRandom-5x5", {"max_episode_steps": 6}),
}
"""With limits so short that environments are reset in between."""

CONFIG = PPOConfig(
    num_envs=16,
    num_steps=8,
    num_epochs=1,
    num_minibatches=2,
    hidden_sizes=(8,),
    torso="mlp",
    reproducible=True,
)


@pytest.mark.slow
@pytest.mark.parametrize("suite", TASKS)
def test_equal_bits_on_other_devices_after_a_checkpoint(suite, tmp_path):
    if find_spec(suites.BUILT_IN[suite].package) is None:
        pytest.skip(f"{suite} is not installed")
    task, params = TASKS[suite]
    env = jaxdrl.make(f"{suite}/{task}", **params)
    on = {n: jaxdrl.ppo(env, CONFIG, mesh=jaxdrl.make_mesh(n)) for n in (1, 8)}
    start = jax.jit(on[1].init)(jax.random.key(0))
    straight = jaxdrl.train(on[1], start, num_updates=2)

    start = place(jax.jit(on[1].init)(jax.random.key(0)), jaxdrl.make_mesh(8))
    half_way = jaxdrl.train(on[8], start, num_updates=1)
    arrays, described = checkpoint.to_host(half_way), checkpoint.describe(half_way)
    path = checkpoint.write(tmp_path, 1, arrays, described, {})
    checkpoint.read_manifest(path)
    abstract = jax.eval_shape(on[1].init, jax.random.key(0))
    loaded = place(checkpoint.load(path, abstract, env.name), jaxdrl.make_mesh(1))
    resumed = jaxdrl.train(on[1], loaded, num_updates=1)

    assert sha256(resumed) == sha256(straight)
    assert jax.tree.structure(resumed) == jax.tree.structure(straight)
    assert sha256(resumed) != sha256(half_way)
