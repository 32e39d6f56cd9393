"""`jaxdrl export`: the policy of a run in a file that needs JAX alone."""

import contextlib
import dataclasses
import io
import json
import re
import subprocess
import sys
import zipfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis import export
from jaxdrl.cli import main
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from small_runs import CARTPOLE, PPO

RUNS = {
    "CartPole-v1": {},
    "Pendulum-v1": {"normalize_observations": True},
    "MemoryChain-bsuite": {"memory": "lstm", "memory_size": 8, "sequence_length": 4},
}

LOADER = """
import sys
for name in ("jaxdrl", "flax", "gymnax", "optax"):
    sys.modules[name] = None  # importing it fails
import zipfile
import jax, numpy as np
with zipfile.ZipFile(sys.argv[1]) as file:
    policy = jax.jit(jax.export.deserialize(bytearray(file.read("policy.stablehlo"))).call)
given = np.load(sys.argv[2])
for num in (1, 5, 1000):
    np.testing.assert_allclose(policy(given["obs"][:num]), given["action"][:num], atol=1e-6)
"""


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory):
    """A short run of each kind."""
    directory, found = tmp_path_factory.mktemp("runs"), {}
    for name, changes in RUNS.items():
        experiment = dataclasses.replace(
            CARTPOLE,
            env=name,
            env_params={},
            total_env_steps=256,
            run_dir=directory / name,
            algorithm=with_settings(PPO, **changes),
        )
        with contextlib.redirect_stdout(io.StringIO()):
            jaxdrl.run(experiment)
        found[name] = experiment.run_dir
    return found


def acting(run_dir, obs, carry=(), start=None):
    """What the run itself does on `obs`."""
    env, agent, state = jaxdrl.restore(run_dir)
    start = np.zeros(len(obs), bool) if start is None else start
    act = jax.jit(agent.policy.act, static_argnames="deterministic")
    key = jax.random.key(0)
    return env, act(state.learner, carry, jnp.asarray(obs), start, key, deterministic=True)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_the_file_acts_without_jaxdrl_flax_and_gymnax(run_dirs, name, tmp_path):
    file = tmp_path / "deep" / "policy.zip"
    found = jaxdrl.export_policy(run_dirs[name], file)
    assert found.num_bytes == file.stat().st_size
    assert found.about["call"] == "(obs) -> action"
    shape = jaxdrl.make(name).observation_space.shape
    obs = np.random.default_rng(0).normal(size=(1000, *shape)).astype(np.float32)
    _, (action, _) = acting(run_dirs[name], obs)
    np.savez(tmp_path / "given.npz", obs=obs, action=action)
    process = subprocess.run(
        [sys.executable, "-c", LOADER, str(file), str(tmp_path / "given.npz")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr[-2000:]


def test_a_policy_with_memory_names_its_carry_and_hands_it_on(run_dirs, tmp_path):
    run_dir = run_dirs["MemoryChain-bsuite"]
    found = jaxdrl.export_policy(run_dir, tmp_path / "policy.zip")
    assert found.about["call"] == "(obs, carry, episode_start) -> (action, carry)"
    assert found.about["carry"] == {
        f"actor.{i}": "float32[batch, 8]"
        for i in (0, 1)  # the critic's decides no action
    }
    with zipfile.ZipFile(tmp_path / "policy.zip") as file:
        assert json.loads(file.read("about.json")) == found.about
    policy = jax.jit(jaxdrl.load_policy(tmp_path / "policy.zip"))
    rng = np.random.default_rng(0)
    _, agent, _ = jaxdrl.restore(run_dir)
    ours = agent.policy.initial_carry(5)
    carry = {"actor": ours["actor"]}
    for step in range(4):
        obs = rng.normal(size=(5, 3)).astype(np.float32)
        start = np.array([step == 0, False, step == 2, True, False])
        action, carry = policy(obs, carry, start)
        _, (expected, ours) = acting(run_dir, obs, ours, start)
        np.testing.assert_array_equal(action, expected)
        chex.assert_trees_all_close(carry["actor"], ours["actor"], rtol=1e-7, atol=1e-6)


def team():
    """Two agents, whose sides only the state of the world tells; the reward is that of the team."""

    def observe(sides):
        own = jnp.eye(2) + 0.1 * sides[:, None]
        return {"own": own, "world_state": jnp.broadcast_to(sides, (2, 2))}

    def reset(key, params):
        sides = jax.random.uniform(key, (2,))
        return observe(sides), sides

    def step(key, sides, action, params):
        is_right = action == (sides > 0.5).astype(jnp.int32)
        reward = jnp.broadcast_to(is_right.astype(jnp.float32).mean(), (2,))
        return observe(sides), sides, reward, jnp.asarray(True), jnp.asarray(False), {}

    spaces = {name: jaxdrl.spaces.Box(0.0, 2.0, (2,)) for name in ("own", "world_state")}
    return jaxdrl.Environment(
        name="team",
        reset=reset,
        step=step,
        observation_space=jaxdrl.spaces.Dict(spaces),
        action_space=jaxdrl.spaces.Discrete(2),
        num_agents=2,
    )


def test_what_the_critic_alone_reads_is_no_part_of_the_file(tmp_path):
    changes = {"memory": "gru", "memory_size": 8, "sequence_length": 4}
    algorithm = with_settings(
        PPO, critic_only=("world_state",), normalize_observations=True, **changes
    )
    env, experiment = (
        team(),
        dataclasses.replace(
            CARTPOLE,
            env="team",
            env_params={},
            total_env_steps=256,
            run_dir=tmp_path / "run",
            algorithm=algorithm,
        ),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        run = jaxdrl.run(experiment, env=env)
    found = jaxdrl.export_policy(run.run_dir, tmp_path / "policy.zip", env=env)
    assert found.about["obs"] == {"own": "float32[batch, 2]"}
    assert found.about["carry"] == {"actor": "float32[batch, 8]"}
    assert (found.about["num_agents"], found.about["left_out"]) == (2, ["world_state"])
    assert "world_state" not in found.about["spaces"]

    _, agent, state = jaxdrl.restore(run.run_dir, env=env)
    rng, start = np.random.default_rng(0), np.array([True, False, True])
    obs = {name: rng.normal(size=(3, 2)).astype(np.float32) for name in ("own", "world_state")}
    carry = jax.tree.map(lambda x: rng.normal(size=x.shape), agent.policy.initial_carry(3))
    carry = jax.tree.map(np.float32, carry)
    act = jax.jit(agent.policy.act, static_argnames="deterministic")
    given = (state.learner, carry, obs, start, jax.random.key(0))
    expected, expected_carry = act(*given, deterministic=True)
    policy = jax.jit(jaxdrl.load_policy(found.path))
    action, after = policy({"own": obs["own"]}, {"actor": carry["actor"]}, start)
    np.testing.assert_array_equal(action, expected)
    np.testing.assert_allclose(after["actor"], expected_carry["actor"], rtol=1e-6, atol=1e-6)


def test_the_command_says_what_it_wrote(run_dirs):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main.main(["export", str(run_dirs["CartPole-v1"])])
    file = run_dirs["CartPole-v1"] / "policy.zip"
    assert file.exists()
    assert re.search(
        r"CartPole-v1, after update 2: \(obs\) -> action, \d+ KiB, for cpu, cuda, tpu\n",
        output.getvalue(),
    )
    assert output.getvalue().endswith(f"policy: {file}\n")


def test_a_file_that_acts_in_another_way_is_refused(run_dirs, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_policy", lambda path, **given: lambda obs: 5 - obs[:, 0] * 0)
    with pytest.raises(ConfigError, match="does not act as the run does"):
        jaxdrl.export_policy(run_dirs["CartPole-v1"], tmp_path / "policy.zip")
    assert list(tmp_path.iterdir()) == []  # nor is it left behind


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_is_no_policy_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "policy.zip").write_bytes(content)
    with pytest.raises(ConfigError, match="is not an exported policy"):
        jaxdrl.load_policy(tmp_path / "policy.zip")
