"""Policies as ONNX, which onnxruntime runs without JAX, against the policies of the runs."""

import contextlib
import dataclasses
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments
from jaxdrl.algorithms.build import build
from jaxdrl.analysis import onnx_file
from jaxdrl.analysis.policy_function import PolicyFunction, policy_function
from jaxdrl.analysis.policy_inputs import Unread
from jaxdrl.cli import main
from jaxdrl.config.algorithms import SACConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.spaces import Box, Discrete, MultiDiscrete
from jaxdrl.errors import ConfigError
from jaxdrl.runs.restore import Player
from page_code import ROOT, run_blocks
from probe_agents import team
from small_runs import CARTPOLE, PPO, run_quietly

if "onnx" not in os.environ.get("JAXDRL_TESTS_NEED", ""):  # which `make test-suites` sets
    pytest.importorskip("jax2onnx")
import onnx
import onnxruntime

NUM = 10_000
MEMORY = {"memory_size": 8, "sequence_length": 4}
RUNS = {
    "mlp": ("CartPole-v1", {}),
    "cnn": ("Breakout-MinAtar", {"torso": "cnn"}),
    "gru": ("MemoryChain-bsuite", {"memory": "gru", **MEMORY}),
}

RUNNER = """
import sys
for name in ("jax", "jaxlib", "flax", "jaxdrl", "jax2onnx", "onnx"):
    sys.modules[name] = None  # importing it fails
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = np.load(sys.argv[2])
for num in (1, 5, 1000):
    (action,) = session.run(None, {"obs": given["obs"][:num]})
    np.testing.assert_array_equal(action, given["action"][:num])
"""


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory):
    """A short run of each kind, which normalises observations."""
    directory, found = tmp_path_factory.mktemp("runs"), {}
    for name, (env, changes) in RUNS.items():
        changes = {"normalize_observations": True, "learning_rate": 0.05, **changes}
        experiment = dataclasses.replace(
            CARTPOLE,
            env=env,
            env_params={},
            total_env_steps=256,
            devices=1,
            evaluate_every=None,
            run_dir=directory / name,
            algorithm=with_settings(PPO, **changes),
        )
        run_quietly(experiment)
        found[name] = experiment.run_dir
    return found


@pytest.fixture(scope="module")
def files(run_dirs, tmp_path_factory):
    """`(what export_policy returned, session)` of each run."""
    directory, found = tmp_path_factory.mktemp("files"), {}
    for name, run_dir in run_dirs.items():
        exported = jaxdrl.export_policy(run_dir, directory / f"{name}.onnx")
        found[name] = exported, session_of(exported.path)
    return found


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def drawn(learner, shape):
    """Observations about as far from each other as those of the training, and farther."""
    statistics = jax.device_get(learner.obs_statistics)
    numbers = np.random.default_rng(0).normal(size=(NUM, *shape)) * 2
    return np.float32(statistics.mean + np.sqrt(statistics.variance) * numbers)


def acting(run_dir):
    """`(observations, carry, episode starts, action, carry after it)` of the run itself."""
    env, agent, state = jaxdrl.restore(run_dir)
    rng = np.random.default_rng(1)
    carry = agent.policy.initial_carry(NUM)
    carry = jax.tree.map(lambda x: rng.uniform(-1, 1, x.shape).astype(x.dtype), carry)
    obs, start = drawn(state.learner, env.observation_space.shape), rng.random(NUM) < 0.3
    act = jax.jit(agent.policy.act, static_argnames="greedy")
    given = (state.learner, carry, obs, start, jax.random.key(0))
    return obs, carry, start, *jax.device_get(act(*given, greedy=True))


def require_equal(expected, actual):
    """Two choices within rounding of each other may change places once."""
    assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape)
    assert 0 < np.count_nonzero(actual) < actual.size and np.sum(expected != actual) <= 1


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_ten_thousand_actions_are_those_of_the_run(run_dirs, files, name):
    obs, _, _, expected, _ = acting(run_dirs[name])
    (action,) = files[name][1].run(None, {"obs": obs})
    require_equal(expected, action)


def test_ten_thousand_actions_and_memories_are_those_of_the_run(run_dirs, files):
    obs, carry, start, expected, after = acting(run_dirs["gru"])
    given = {"obs": obs, "carry.actor": carry["actor"], "episode_start": start}
    action, actual = files["gru"][1].run(["action", "next_carry.actor"], given)
    require_equal(expected, action)
    np.testing.assert_allclose(actual, after["actor"], rtol=0, atol=1e-6)


def test_the_file_needs_neither_jax_nor_jaxdrl(run_dirs, files, tmp_path):
    obs, _, _, action, _ = acting(run_dirs["mlp"])
    np.savez(tmp_path / "given.npz", obs=obs, action=action)
    command = [sys.executable, "-W", "error", "-c", RUNNER, str(files["mlp"][0].path)]
    process = subprocess.run(
        [*command, str(tmp_path / "given.npz")], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout == process.stderr == ""


def test_loading_a_file_prints_nothing(files, capfd):
    for exported, _ in files.values():
        session_of(exported.path)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_the_file_names_what_it_takes_and_describes_itself(files):
    exported, session = files["gru"]
    given = {x.name: (x.shape, x.type) for x in session.get_inputs()}
    assert given == {
        "obs": (["batch", 3], "tensor(float)"),
        "carry.actor": (["batch", 8], "tensor(float)"),
        "episode_start": (["batch"], "tensor(bool)"),
    }
    returned = {x.name: (x.shape, x.type) for x in session.get_outputs()}
    assert returned == {
        "action": (["batch"], "tensor(int32)"),
        "next_carry.actor": (["batch", 8], "tensor(float)"),
    }
    about = session.get_modelmeta().custom_metadata_map
    assert about["env"] == "MemoryChain-bsuite" and json.loads(about["update"]) == 2
    assert about["call"] == "(obs, carry, episode_start) -> (action, carry)"
    assert json.loads(about["versions"])["jax"] == jax.__version__
    assert about["spaces"] == exported.about["spaces"]
    assert about.keys() == exported.about.keys()
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(x.domain, x.version) for x in model.opset_import] == [("", 21)]
    assert model.ir_version == 10


# Policies of one kind each, of learners that were not trained, whose parameters are far apart.


def player_of(env, config, **changes):
    env = jaxdrl.make(env) if isinstance(env, str) else env
    algorithm = build(env, with_settings(config, **changes))
    learner = jax.device_get(jax.jit(algorithm.init)(jax.random.key(0)).learner)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(x.dtype), learner.params
    )
    learner = dataclasses.replace(learner, params=params)
    return Player(env, algorithm.policy, learner, Path("run"), 1, 0, None)


KINDS = {
    "bounds": ("Pendulum-v1", PPO, {"normalize_observations": True}, {"obs"}),
    "squashed": ("Pendulum-v1", PPO, {"action_distribution": "tanh_normal"}, {"obs"}),
    "sac": ("Pendulum-v1", SACConfig(), {"hidden_sizes": (8,)}, {"obs"}),
    "layer_norm": ("CartPole-v1", PPO, {"layer_norm": True, "activation": "silu"}, {"obs"}),
    "whole numbers": (
        probe_environments.constant_reward(3, "terminated", Box(-3, 5, (2,), "int32")),
        PPO,
        {},
        {"obs"},
    ),
    "mask": (probe_environments.masked(Discrete(4)), PPO, {}, {"obs"}),
    "masks": (probe_environments.masked(MultiDiscrete((2, 3))), PPO, {}, {"obs"}),
    "pixels": (probe_environments.image(), PPO, {"torso": "cnn"}, {"obs"}),
    "dictionary": (
        probe_environments.dictionary(),
        PPO,
        {"torso": "cnn", "normalize_observations": True, "memory": "gru", **MEMORY},
        {"obs.choice", "obs.image", "obs.number", "carry.actor", "episode_start"},
    ),
    "lstm": (
        "MemoryChain-bsuite",
        PPO,
        {"memory": "lstm", **MEMORY},
        {"obs", "carry.actor.0", "carry.actor.1", "episode_start"},
    ),
    "critic only": (
        probe_environments.dictionary(),
        PPO,
        {"critic_only": ("image", "choice")},
        {"obs.number"},
    ),
    "team": (team(), PPO, {}, {"obs"}),
}


@pytest.mark.parametrize("name", KINDS)
def test_policies_of_every_kind_act_as_the_run_does(name, tmp_path):
    *made, taken = KINDS[name]
    player = player_of(made[0], made[1], **made[2])
    function = policy_function(player.env, player.policy, player.learner)
    path = tmp_path / "policy.onnx"
    onnx_file.write(path, onnx_file.convert(path, function, player.learner), {})
    onnx_file.check(path, path, function, player)
    assert {x.name for x in session_of(path).get_inputs()} == taken


def test_the_critic_is_no_part_of_the_file(tmp_path):
    player = player_of("CartPole-v1", PPO, hidden_sizes=(64, 64), shared_torso=False)
    function = policy_function(player.env, player.policy, player.learner)
    model = onnx_file.convert(tmp_path, function, player.learner)
    sizes = [int(np.prod(x.dims)) for x in model.graph.initializer]
    actor = 4 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2
    assert actor <= sum(sizes) < actor + 100


# What reaches the user


def test_the_command_prints_two_lines_and_leaves_all_as_it_was(run_dirs, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO)
    modules = (jnp, jax, jax.lax, jax.nn, jnp.linalg, nn, nn.Dense)
    before = [dict(vars(module)) for module in modules]
    handlers = [list(logging.root.handlers), logging.root.manager.disable]
    path = tmp_path / "deep" / "policy.onnx"
    main.main(["export", str(run_dirs["mlp"]), "--out", str(path)])
    printed = capfd.readouterr()
    size = f"{path.stat().st_size / 1024:.0f} KiB"
    first = f"CartPole-v1, after update 2: (obs) -> action, {size}, in ONNX's opset 21\n"
    assert (printed.out, printed.err) == (f"{first}policy: {path}\n", "")
    assert [x.name for x in caplog.records if not x.name.startswith("jax._src")] == []
    assert handlers == [logging.root.handlers, logging.root.manager.disable]
    for module, names in zip(modules, before, strict=True):
        assert [name for name in names if vars(module)[name] is not names[name]] == []


def refusal_of(call, *args):
    with pytest.raises(ConfigError) as caught, contextlib.redirect_stdout(io.StringIO()):
        call(*args)
    return str(caught.value)


def test_a_file_that_acts_in_another_way_is_not_written(run_dirs, tmp_path, monkeypatch):
    path, convert = tmp_path / "policy.onnx", onnx_file.convert
    path.write_text("the old one")

    def turned(out, function, learner):
        params = jax.tree.map(np.negative, learner.params)
        return convert(out, function, dataclasses.replace(learner, params=params))

    monkeypatch.setattr(onnx_file, "convert", turned)
    said = refusal_of(jaxdrl.export_policy, run_dirs["mlp"], path)
    assert said.startswith(f"out = '{path}': it would not act as the run does")
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "the old one"


def test_a_memory_that_is_not_that_of_the_run_is_not_written(run_dirs, tmp_path, monkeypatch):
    convert = onnx_file.convert

    def turned(out, function, learner):
        def act(*args):
            action, carry = function.act(*args)
            return action, jax.tree.map(lambda x: x + 1e-4, carry)

        return convert(out, function._replace(act=act), learner)

    monkeypatch.setattr(onnx_file, "convert", turned)
    said = refusal_of(jaxdrl.export_policy, run_dirs["gru"], tmp_path / "policy.onnx")
    assert "would not act as the run does" in said


def function_of(act):
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = (jax.ShapeDtypeStruct((batch, 3), jnp.float32),)
    return PolicyFunction(lambda learner, obs: (act(obs),), shapes, Unread())


def test_an_operation_that_is_not_known_is_named():
    unknown = jax.extend.core.Primitive("unknown")
    unknown.def_abstract_eval(lambda x: x)
    function = function_of(lambda obs: unknown.bind(obs)[:, 0])
    said = refusal_of(onnx_file.convert, Path("policy.onnx"), function, ())
    assert said == (
        "out = 'policy.onnx': jax2onnx cannot convert the operation unknown of this policy; "
        "a name that ends in .zip works"
    )


def test_other_errors_of_the_converter_are_one_line(monkeypatch):
    def fails(*args, **kwargs):
        print("noise")
        raise ValueError("first\nsecond")

    monkeypatch.setattr("jax2onnx.to_onnx", fails)
    function = function_of(lambda obs: obs[:, 0])
    said = refusal_of(onnx_file.convert, Path("p.onnx"), function, ())
    assert said.startswith("out = 'p.onnx': jax2onnx cannot convert this policy (first); ")


def test_what_onnxruntime_does_not_run_is_refused(tmp_path):
    player = player_of("CartPole-v1", PPO, network_dtype="bfloat16")
    function = policy_function(player.env, player.policy, player.learner)
    said = refusal_of(onnx_file.convert, Path("p.onnx"), function, player.learner)
    assert said.startswith("out = 'p.onnx': the network computes in bfloat16")
    (tmp_path / "p.onnx").write_bytes(b"no model")
    player = player_of("CartPole-v1", PPO)
    said = refusal_of(onnx_file.check, Path("p.onnx"), tmp_path / "p.onnx", function, player)
    assert said.startswith("out = 'p.onnx': onnxruntime cannot run the file (")


def test_the_blocks_of_the_page_run(tmp_path):
    printed = run_blocks(ROOT / "docs/onnx.md", tmp_path)
    assert "['obs', 'carry.actor', 'episode_start'] CartPole-v1" in printed
