"""One task of each suite: equal bits on any number of devices, and from a checkpoint on."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.algorithms.sharded import STATE_SPECS
from jaxdrl.config.settings import with_settings
from jaxdrl.distributed.layout import place
from jaxdrl.envs.suites import registry
from jaxdrl.runs import checkpoint
from jaxdrl.runs.metrics_log import sha256

FULLY_OPTIMIZED = True

TASKS = {
    "brax": ("inverted_pendulum", {"max_episode_steps": 3}),
    "craftax": ("Craftax-Classic-Symbolic-v1", {"max_episode_steps": 3}),
    "jaxmarl": ("MPE_simple_speaker_listener_v4", {"max_episode_steps": 3}),
    "jumanji": ("Snake-v1", {"num_rows": 5, "num_cols": 5, "max_episode_steps": 3}),
    "navix": ("Navix-Empty-Random-5x5-v0", {"max_episode_steps": 3}),
    "pgx": ("tic_tac_toe", {}),
    "playground": ("PendulumSwingup", {"max_episode_steps": 3}),
    "xminigrid": ("MiniGrid-EmptyRandom-5x5", {"max_episode_steps": 3}),
}
"""With limits, or games, so short that environments are reset in between."""

CONFIG = with_settings(
    PPOConfig(),
    num_envs=8,
    num_steps=4,
    num_epochs=1,
    num_minibatches=1,
    hidden_sizes=(8,),
    torso="mlp",
    reproducible=True,
)


@pytest.mark.slow
@pytest.mark.parametrize("suite", TASKS)
def test_equal_bits_on_other_devices_after_a_checkpoint(suite, tmp_path):
    if registry.missing(suite):
        pytest.skip(f"{suite} is not installed")
    task, params = TASKS[suite]
    env = jaxdrl.make(f"{suite}/{task}", **params)
    meshes = {n: jaxdrl.make_mesh(n) for n in (1, 8)}
    on = {n: jaxdrl.jit_step(jaxdrl.ppo(env, CONFIG, mesh=mesh)) for n, mesh in meshes.items()}
    start = jax.jit(jaxdrl.ppo(env, CONFIG).init)(jax.random.key(0))

    def write(update, state):
        arrays, described = checkpoint.to_host(state), checkpoint.describe(state)
        path = checkpoint.write(tmp_path, update, arrays, described, {})
        checkpoint.read_manifest(path)
        return lambda num: place(checkpoint.load(path, start, env.name), meshes[num], STATE_SPECS)

    begin = write(0, start)
    straight, _ = on[1](on[1](begin(1))[0])
    half_way, _ = on[8](begin(8))
    resumed, _ = on[1](write(1, half_way)(1))

    assert sha256(resumed) == sha256(straight)
    assert jax.tree.structure(resumed) == jax.tree.structure(straight)
    assert sha256(resumed) not in (sha256(start), sha256(half_way))
    params = jax.tree.leaves(jax.device_get(resumed.learner.params))
    assert all(np.isfinite(x).all() for x in params)


SLOW = [pytest.param(env, marks=pytest.mark.slow) for env in ("jaxmarl/coin_game", "pgx/othello")]


@pytest.mark.parametrize("env", ["jumanji/Knapsack-v1", *SLOW])
def test_a_task_without_a_preset_trains_on_the_devices_that_are_asked_for(env, tmp_path):
    """Although the package starts JAX when the environment is made, for its spaces."""
    if registry.missing(env.partition("/")[0]):
        pytest.skip(f"{env} is not installed")
    sizes = ["--num-envs", "16", "--num-steps", "4", "--num-minibatches", "1", "--num-epochs", "1"]
    length = ["--total-env-steps", "64", "--num-eval-episodes", "2", "--devices", "2"]
    command = [sys.executable, "-c", "from jaxdrl.cli.main import main; main()", "train", env]
    done = subprocess.run(
        [*command, *sizes, *length, "--run-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "devices: 2 " in done.stdout
