"""`jaxdrl export`: the policy of a run in a file that needs JAX alone."""

import contextlib
import dataclasses
import errno
import importlib.machinery
import importlib.util
import io
import json
import re
import subprocess
import sys
import time
import zipfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis import export, policy_file
from jaxdrl.cli import main
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.runs.overrides import Overrides
from small_runs import CARTPOLE, PPO, read, resumed, run_quietly, stopped_after

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
    act = jax.jit(agent.policy.act, static_argnames="greedy")
    key = jax.random.key(0)
    return env, act(state.learner, carry, jnp.asarray(obs), start, key, greedy=True)


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
            export_every=1,
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
    act = jax.jit(agent.policy.act, static_argnames="greedy")
    given = (state.learner, carry, obs, start, jax.random.key(0))
    expected, expected_carry = act(*given, greedy=True)
    policy = jax.jit(jaxdrl.load_policy(found.path))
    action, after = policy({"own": obs["own"]}, {"actor": carry["actor"]}, start)
    np.testing.assert_array_equal(action, expected)
    np.testing.assert_allclose(after["actor"], expected_carry["actor"], rtol=1e-6, atol=1e-6)

    # The run has written the same itself, with the environment that it was given.
    assert about_of(run.run_dir / "policy.zip") == found.about
    policy = jax.jit(jaxdrl.load_policy(run.run_dir / "policy.zip"))
    action, _ = policy({"own": obs["own"]}, {"actor": carry["actor"]}, start)
    np.testing.assert_array_equal(action, expected)


# While a run trains


def about_of(path):
    """What a file says of its policy, once it has been loaded."""
    jaxdrl.load_policy(path)
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("about.json"))


def exporting(run_dir, **changes):
    """As the run `CartPole-v1` of `run_dirs`, which exports the policy in each checkpoint."""
    settings = {"total_env_steps": 256, "env_params": {}, "checkpoint_every": 1, "export_every": 1}
    return dataclasses.replace(CARTPOLE, run_dir=run_dir, **(settings | changes))


def test_each_checkpoint_of_a_run_is_exported_without_another_bit(run_dirs, tmp_path):
    file, found = tmp_path / "run" / "policy.zip", []

    def wait_for_file(update, metrics):
        # The last update is saved after its evaluation.
        deadline = time.monotonic() + 60
        while update == 1 and not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        found.append(about_of(file)["update"])

    run, said = run_quietly(exporting(tmp_path / "run"), on_update=wait_for_file)
    assert found == [1, 1]
    assert about_of(file)["update"] == 2
    assert "warning" not in said
    before = read(run_dirs["CartPole-v1"], "result.json")
    assert run.result["state_sha256"] == before["state_sha256"]
    assert list(run.run_dir.glob(".policy*")) == []


def test_a_resumed_run_goes_on_exporting(tmp_path):
    experiment = exporting(tmp_path / "run", total_env_steps=384, export_every=9)
    stopped_after(1, experiment)
    file = tmp_path / "run" / "policy.zip"
    saved = about_of(file)["update"]
    assert 1 <= saved < 3
    resumed(experiment.run_dir)
    assert about_of(file)["update"] == 3


def test_a_full_disk_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(policy_file, "write", fail)
    run, said = run_quietly(exporting(tmp_path / "run"))
    assert run.result["updates"] == 2
    assert said.count("warning: ") == 1
    assert "the policy of update 1 was not exported (No space left on device)" in said.replace(
        "\n", " "
    )
    assert list(run.run_dir.glob("*policy*")) == []


def test_a_publisher_goes_from_run_to_run_as_one_in_parts_does(run_dirs):
    publisher = export.Publisher(Overrides())
    for name in (*RUNS, "CartPole-v1"):
        run_dir = run_dirs[name]
        found = publisher(run_dir, 2)
        assert (found.path, found.about["env"]) == (run_dir / "policy.zip", name)
        assert found.about == jaxdrl.export_policy(run_dir, run_dir / "again.zip").about
        args = [np.ones((3, *jaxdrl.make(name).observation_space.shape), np.float32)]
        if name == "MemoryChain-bsuite":
            carry = {"actor": (np.ones((3, 8), np.float32),) * 2}
            args += [carry, np.array([True, False, False])]
        ours, theirs = (
            jax.jit(jaxdrl.load_policy(run_dir / file))(*args)
            for file in ("policy.zip", "again.zip")
        )
        chex.assert_trees_all_equal(ours, theirs)


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


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        (("jax2onnx", "onnxruntime"), "jax2onnx and onnxruntime are not installed"),
        (("onnxruntime",), "onnxruntime is not installed"),
    ],
)
def test_the_command_says_what_onnx_needs(absent, said, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    there = importlib.machinery.ModuleSpec("there", None)
    found = {name: None if name in absent else there for name in ("jax2onnx", "onnxruntime")}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found[name] if name in found else find(name)
    )
    path = tmp_path / "policy.onnx"
    with pytest.raises(SystemExit):
        main.main(["export", str(tmp_path), "--out", str(path)])
    advice = "pip install 'jaxdrl[onnx]', or use .zip"
    assert capsys.readouterr().err == f"error: out = '{path}': {said}; {advice}\n"


@pytest.mark.parametrize("name", ["policy", "policy.onnx.gz", "policy.pb"])
def test_the_suffix_says_which_kind_of_file(name, tmp_path):
    with pytest.raises(ConfigError, match=r"out = .*: must end in one of \.zip, \.onnx$"):
        jaxdrl.export_policy(tmp_path, tmp_path / name)


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_is_no_policy_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "policy.zip").write_bytes(content)
    with pytest.raises(ConfigError, match="is not an exported policy"):
        jaxdrl.load_policy(tmp_path / "policy.zip")
