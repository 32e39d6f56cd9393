"""`jaxdrl.run` from a config to the files of a run directory, and `jaxdrl.resume` on from them."""

import contextlib
import dataclasses
import errno
import io
import json
import re
import shlex
import shutil
import types
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments as probes
from jaxdrl import spaces
from jaxdrl.cli import main
from jaxdrl.config.experiment import Experiment, resolve
from jaxdrl.config.settings import with_settings
from jaxdrl.envs import Environment
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import read_sealed, write_sealed
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint import updates_in
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.metrics_log import sha256
from jaxdrl.runs.run_dir import read_run
from jaxdrl.runs.stopping import NonFiniteError
from small_runs import (
    CARTPOLE,
    PPO,
    lines_of,
    read,
    resumed,
    run_quietly,
    stopped_after,
    without_speed,
)

FIGURES = {"num_episodes", "mean_return", "ci95_low", "ci95_high", "mean_length", "num_cut"}

pytestmark = pytest.mark.usefixtures("compile_cache")


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """A finished run of CartPole and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "cartpole"
    run, output = run_quietly(dataclasses.replace(CARTPOLE, run_dir=run_dir))
    return types.SimpleNamespace(run=run, run_dir=run_dir, output=output)


def test_a_run_leaves_three_files_and_its_checkpoints(cartpole):
    names = sorted(path.name for path in cartpole.run_dir.iterdir())
    assert names == [".lock", "checkpoints", "config.json", "metrics.jsonl", "result.json"]
    assert updates_in(cartpole.run_dir / "checkpoints") == [2, 3]  # the first best, and the end
    assert cartpole.run.run_dir == cartpole.run_dir


def test_config_file_holds_everything_that_decides_the_run(cartpole):
    config = read(cartpole.run_dir, "config.json")
    names = {
        "format_version",
        "experiment",
        "env_params",
        "spaces",
        "overrides",
        "versions",
        "devices",
    }
    origin = {"run_id", "part_of", "has_checkpoints", "sha256"}
    assert set(config) == names | origin
    assert config["format_version"] == 2
    assert (config["part_of"], config["has_checkpoints"]) == (None, True)
    described = config["experiment"]
    assert set(described) == {field.name for field in dataclasses.fields(Experiment)}
    resolved = with_settings(PPO, anneal_env_steps=300.0)
    algorithm = {"kind": "ppo"} | json.loads(json.dumps(dataclasses.asdict(resolved)))
    assert described["algorithm"] == algorithm
    assert described["run_dir"] == str(cartpole.run_dir)
    for name in ("env", "seed", "total_env_steps", "devices", "evaluate_every", "log_every"):
        assert described[name] == getattr(CARTPOLE, name)
    assert described["env_params"] == {"max_steps_in_episode": 12}
    assert config["env_params"]["max_steps_in_episode"] == 12
    assert config["env_params"]["gravity"] == pytest.approx(9.8)  # resolved, not only given
    assert config["overrides"] == []
    assert config["devices"].pop("needed_bytes") > 1000
    assert config["devices"] == {"num": 2, "platform": "cpu", "kind": "cpu", "is_counted": True}
    assert config["versions"]["jaxdrl"] == jaxdrl.__version__
    assert re.fullmatch(r"3\.\d+\.\d+", config["versions"]["python"])
    for package in ("jax", "jaxlib", "flax", "optax", "chex", "gymnax", "numpy"):
        assert config["versions"][package] == version(package)


def test_the_config_file_gives_back_the_experiment(cartpole):
    given = dataclasses.replace(CARTPOLE, run_dir=cartpole.run_dir)
    assert read_run(cartpole.run_dir).experiment == resolve(given)


def test_metrics_file_has_a_line_an_update(cartpole):
    lines = lines_of(cartpole.run_dir)
    assert [line["update"] for line in lines] == [1, 2, 3]
    assert [line["env_steps"] for line in lines] == [128, 256, 384]
    names = {
        "update",
        "env_steps",
        "episode_return",
        "episode_length",
        "num_episodes",
        "policy_loss",
        "value_loss",
        "entropy",
        "approx_kl",
        "clip_fraction",
        "explained_variance",
        "grad_norm",
        "learning_rate",
        "skipped_steps",
        "nonfinite_params",
        "nonfinite_values",
        "nonfinite_observations",
        "nonfinite_rewards",
        "steps_per_second",
        "memory_bytes",
    }
    evaluated = {f"evaluation_{name}" for name in FIGURES}
    assert set(lines[0]) == names
    assert set(lines[1]) == set(lines[2]) == names | evaluated


def test_metrics_are_plausible(cartpole):
    lines = lines_of(cartpole.run_dir)
    assert lines[0]["entropy"] == pytest.approx(np.log(2), abs=1e-3)
    for line in lines:
        assert line["steps_per_second"] > 0
        assert line["grad_norm"] > 0
        assert 2**20 < line["memory_bytes"] < 2**40
        assert 0 <= line["clip_fraction"] <= 1
    # Episodes end after 12 steps at most and pay 1 a step; each update is 8 steps.
    ended = [line for line in lines if line["num_episodes"]]
    assert ended[-1]["update"] == 3
    for line in ended:
        assert line["episode_return"] == line["episode_length"] <= 12
    for line in lines:
        assert (line["episode_return"] is None) == (line["num_episodes"] == 0)


def test_the_learning_rate_anneals_over_the_length_of_the_run(cartpole):
    rates = [line["learning_rate"] for line in lines_of(cartpole.run_dir)]
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.array([0, 128, 256]) / 300), rtol=1e-5)


def test_result_file(cartpole):
    result = read(cartpole.run_dir, "result.json")
    assert set(result) == {
        "env",
        "seed",
        "devices",
        "env_steps",
        "updates",
        "stopped_early",
        "compile_seconds",
        "train_seconds",
        "steps_per_second",
        "params_sha256",
        "state_sha256",
        "greedy_evaluation",
        "evaluation",
        "run_id",
        "sha256",
    }
    expected = {"env": "CartPole-v1", "seed": 0, "devices": 2, "env_steps": 384, "updates": 3}
    assert {name: result[name] for name in expected} == expected
    assert result["compile_seconds"] > 0
    assert result["steps_per_second"] == pytest.approx(384 / result["train_seconds"])
    evaluation = result["evaluation"]
    assert set(evaluation) == FIGURES
    assert evaluation["num_episodes"] == 8
    assert evaluation["num_cut"] == 0
    assert 1 <= evaluation["ci95_low"] <= evaluation["mean_return"] <= evaluation["ci95_high"] <= 12
    assert evaluation["mean_length"] == evaluation["mean_return"]


def test_the_last_line_and_the_result_tell_of_the_same_evaluation(cartpole):
    result, line = read(cartpole.run_dir, "result.json"), lines_of(cartpole.run_dir)[-1]
    assert {name: line[f"evaluation_{name}"] for name in FIGURES} == result["evaluation"]


def test_the_run_object_agrees_with_the_files(cartpole):
    run = cartpole.run
    result = read(cartpole.run_dir, "result.json")
    assert run.result == result
    assert run.env.name == "CartPole-v1"
    assert run.env.max_episode_steps == 12
    assert run.evaluation.mean_return == result["evaluation"]["mean_return"]
    assert run.evaluation.returns.shape == (8,)
    assert sha256(run.state) == result["state_sha256"]
    assert sha256(run.state.learner.params) == result["params_sha256"]
    assert int(run.state.learner.num_updates) == 3
    assert run.state.actor.obs.shape == (16, 4)
    assert len(run.state.actor.obs.devices()) == 2


def test_plain_output_says_what_was_reached_and_where_it_lies(cartpole):
    evaluation = cartpole.run.result["evaluation"]
    output = cartpole.output
    assert re.search(r"^devices: 2 \(CPU, .*\); compiled programs: .+$", output, re.MULTILINE)
    assert "loading CartPole-v1\n" in output
    assert re.search(r"^compiling\ncompiled in \d+\.\d s$", output, re.MULTILINE)
    progress = r"^  384 of 384 steps, [\d,]+ steps/s, episode return [\d.]+, 0 s left$"
    assert re.search(progress, output, re.MULTILINE)
    assert re.search(r"^trained 384 steps in \d+\.\d s \([\d,]+ steps/s\)$", output, re.MULTILINE)
    assert (
        f"CartPole-v1: greedy mean return {evaluation['mean_return']:.1f} "
        f"(95% interval {evaluation['ci95_low']:.1f} to {evaluation['ci95_high']:.1f}) "
        "over 8 episodes\n"
    ) in output
    assert output.endswith(f"results: {cartpole.run_dir}\n")  # on one line, however long
    assert "\x1b" not in output


def test_a_seed_gives_the_same_bits_again_and_another_seed_others(cartpole, tmp_path):
    again, _ = run_quietly(dataclasses.replace(CARTPOLE, run_dir=tmp_path / "again"))
    other, _ = run_quietly(dataclasses.replace(CARTPOLE, run_dir=tmp_path / "other", seed=1))
    first = cartpole.run.result
    assert again.result["state_sha256"] == first["state_sha256"]
    assert again.result["params_sha256"] == first["params_sha256"]
    assert again.result["evaluation"] == first["evaluation"]
    assert other.result["state_sha256"] != first["state_sha256"]
    assert other.result["params_sha256"] != first["params_sha256"]
    measured = {"steps_per_second", "memory_bytes"}
    for line, line_again in zip(
        lines_of(cartpole.run_dir), lines_of(tmp_path / "again"), strict=True
    ):
        assert {k: line[k] for k in line.keys() - measured} == {
            k: line_again[k] for k in line_again.keys() - measured
        }


def test_updates_between_two_lines_are_not_lost(cartpole, tmp_path):
    sparse = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "sparse", log_every=2)
    run, output = run_quietly(sparse)
    assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]
    lines, full = lines_of(tmp_path / "sparse"), lines_of(cartpole.run_dir)
    assert [line["update"] for line in lines] == [2, 3]  # the evaluation of update 3 has a line
    assert lines[0]["num_episodes"] == full[0]["num_episodes"] + full[1]["num_episodes"]
    for line, full_line in zip(lines, full[1:], strict=True):
        for name in FIGURES:
            assert line[f"evaluation_{name}"] == full_line[f"evaluation_{name}"]
    assert "384 of 384 steps" in output


# Everything of one's own.


def counting_env():
    """Pays 1 for action 1; each episode ends after 4 steps."""

    def observe(steps):
        return jnp.stack([steps, 4.0 - steps])

    def reset(key, params):
        steps = jnp.zeros((), jnp.float32)
        return observe(steps), steps

    def step(key, steps, action, params):
        steps = steps + 1
        reward = (action == 1).astype(jnp.float32)
        return observe(steps), steps, reward, steps >= 4, jnp.zeros((), bool), {}

    box = spaces.Box(0.0, 4.0, (2,))
    return Environment("Counting", reset, step, box, spaces.Discrete(2), max_episode_steps=4)


class OwnNetwork(nn.Module):
    """One layer of logits, and a value."""

    @nn.compact
    def __call__(self, obs):
        init = nn.initializers.zeros
        logits = nn.Dense(2, kernel_init=init, name="logits")(obs)
        return logits, nn.Dense(1, kernel_init=init, name="value")(obs)[:, 0]


def test_environment_network_and_optimizer_of_your_own_on_eight_devices(tmp_path):
    given = Experiment(
        env="mine",
        total_env_steps=20 * 64,
        devices=8,
        run_dir=tmp_path / "own",
        num_eval_episodes=4,
        algorithm=dataclasses.replace(PPO, num_steps=4, gamma=0.0, gae_lambda=0.0),
    )
    run, output = run_quietly(
        given, env=counting_env(), network=OwnNetwork(), optimizer=optax.sgd(0.5)
    )
    assert set(run.state.learner.params) == {"logits", "value"}
    assert len(run.state.actor.obs.devices()) == 8
    assert run.result["devices"] == read(tmp_path / "own", "config.json")["devices"]["num"] == 8
    lines = lines_of(tmp_path / "own")
    assert [line["num_episodes"] for line in lines] == [16] * 20
    assert [line["episode_length"] for line in lines] == [4.0] * 20
    # Every episode pays 4 at best; greedy play takes action 1 as soon as it is the likelier one.
    assert run.evaluation.mean_return == 4.0
    assert lines[-1]["episode_return"] > lines[0]["episode_return"] + 0.5
    assert "loading" not in output
    for content in (run.result, read(tmp_path / "own", "config.json")["experiment"]):
        assert content["env"] == "Counting"
    assert "Counting: greedy mean return 4.0" in output


# What is refused leaves nothing behind.


class WrongNetwork(nn.Module):
    """Gives three logits, whatever there is to choose from."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(3)(obs), obs[:, 0]


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"env": "CartPole"}, {}, r"^env = 'CartPole': unknown; the nearest: CartPole-v1"),
        ({"env_params": {"gravty": 1.0}}, {}, r"^env_params\.gravty = 1\.0: .*nearest: gravity"),
        ({"algorithm": with_settings(PPO, torso="cnn")}, {}, r"^torso = 'cnn': "),
        ({}, {"network": WrongNetwork()}, r"^network"),
    ],
)
def test_refused_input_leaves_no_directory_behind(tmp_path, changes, arguments, message):
    run_dir = tmp_path / "runs" / "refused"
    with pytest.raises(ConfigError, match=message):
        run_quietly(dataclasses.replace(CARTPOLE, run_dir=run_dir, **changes), **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_an_occupied_directory_is_refused_and_untouched(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=r"^run_dir = .* already holds a run"):
        run_quietly(dataclasses.replace(CARTPOLE, run_dir=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.usefixtures("no_compile")
def test_a_directory_may_be_given_as_a_string(tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"^run_dir = .* already holds a run"):
        run_quietly(dataclasses.replace(CARTPOLE, run_dir=str(tmp_path)))


# On from a checkpoint.


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(cartpole, tmp_path):
    message = stopped_after(1, dataclasses.replace(CARTPOLE, run_dir=tmp_path))
    assert message == (
        "SIGTERM: stopped after update 1 of 3. The checkpoint of update 1 is saved; "
        f"resume with: jaxdrl resume {tmp_path}"
    )
    assert not (tmp_path / "result.json").exists()
    run, output = resumed(tmp_path)
    assert f"resuming from update 1 ({tmp_path}/checkpoints/00000001)" in output
    assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]
    assert run.result["evaluation"] == cartpole.run.result["evaluation"]
    assert without_speed(tmp_path) == without_speed(cartpole.run_dir)


def test_every_checkpoint_leads_to_the_same_end(cartpole, tmp_path):
    """From before, at and after the evaluations, with lines of several updates, and from none."""
    sparse = dataclasses.replace(CARTPOLE, checkpoint_every=1, keep_checkpoints=9, log_every=3)
    whole, _ = run_quietly(dataclasses.replace(sparse, run_dir=tmp_path))
    lines = without_speed(tmp_path)
    assert updates_in(tmp_path / "checkpoints") == [1, 2, 3]
    for update in (2, 1):
        run, _ = resumed(tmp_path, checkpoint=update)
        assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]
        assert run.result["evaluation"] == whole.result["evaluation"]
        assert without_speed(tmp_path) == lines
        assert updates_in(tmp_path / "checkpoints") == [1, 2, 3]
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "result.json").unlink()
    with pytest.raises(ConfigError, match="holds no checkpoint any more, and there were some"):
        resumed(tmp_path)
    assert without_speed(tmp_path) == lines
    content = read_sealed(tmp_path / "config.json", "")  # as if killed before the first one
    write_sealed(tmp_path / "config.json", content | {"has_checkpoints": False})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    run, output = resumed(tmp_path)
    assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]
    assert without_speed(tmp_path) == lines
    assert f"its lines so far are kept in {tmp_path / 'metrics.old-1.jsonl'}" in output
    assert (tmp_path / "metrics.old-1.jsonl").read_bytes() == before


def test_a_directory_that_is_removed_while_it_trains_can_be_resumed(tmp_path):
    """The directory goes with the first checkpoint; the second makes it anew."""
    run_dir, original = tmp_path / "run", Saver.is_due

    def is_due(self, update):
        if update == 2:
            self.wait()
            shutil.rmtree(run_dir)
        return original(self, update)

    experiment = dataclasses.replace(
        CARTPOLE, run_dir=run_dir, checkpoint_every=1, total_env_steps=5 * 128, evaluate_every=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "is_due", is_due)
        run, output = run_quietly(experiment)
    assert output.count("was removed while the run trained") == 1
    assert read(run_dir, "result.json") == run.result
    assert [line["update"] for line in lines_of(run_dir)][-1] == 5
    again, _ = resumed(run_dir, checkpoint=updates_in(run_dir / "checkpoints")[0])
    assert again.result["state_sha256"] == run.result["state_sha256"]


def test_a_run_killed_before_its_result_only_evaluates_again(cartpole, tmp_path):
    shutil.copytree(cartpole.run_dir, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    lines = tmp_path / "run" / "metrics.jsonl"
    lines.write_text(lines.read_text() + '{"update": 4, "torn')
    run, _ = resumed(tmp_path / "run")
    for name in ("state_sha256", "evaluation"):
        assert run.result[name] == cartpole.run.result[name]
    assert without_speed(tmp_path / "run") == without_speed(cartpole.run_dir)


def test_a_damaged_checkpoint_is_named_and_the_one_before_resumes(cartpole, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(cartpole.run_dir, run_dir)
    damaged = run_dir / "checkpoints" / "00000003" / "state.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    run, output = resumed(run_dir)
    assert f"warning: {damaged}: does not have the digest" in output
    assert "resuming from update 2" in output
    assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]
    damaged.write_bytes(b"")
    with pytest.raises(ConfigError, match=f"^{damaged}: .*damaged"):
        resumed(run_dir, checkpoint=3)


def test_restore_gives_environment_algorithm_and_state(cartpole):
    env, agent, state = jaxdrl.restore(cartpole.run_dir, mesh=jaxdrl.make_mesh(2))
    assert sha256(state) == cartpole.run.result["state_sha256"]
    assert env.max_episode_steps == 12
    types = [
        jax.tree.map(lambda x: (x.aval, x.sharding), tree) for tree in (state, cartpole.run.state)
    ]
    assert types[0] == types[1]  # else the step would compile again
    _, _, best = jaxdrl.restore(cartpole.run_dir, checkpoint="best")
    assert int(best.learner.num_updates) in (2, 3)
    key = jax.random.key(0)
    assert jaxdrl.evaluate(env, agent.policy, state.learner, key, num_episodes=4).num_episodes == 4


def test_what_was_given_in_python_has_to_be_given_again(tmp_path):
    own = Experiment(
        env="mine",
        total_env_steps=128,
        devices=2,
        run_dir=tmp_path,
        num_eval_episodes=4,
        algorithm=PPO,
    )
    run, _ = run_quietly(own, env=counting_env(), network=OwnNetwork())
    with pytest.raises(ConfigError) as caught:
        jaxdrl.restore(tmp_path, env=counting_env())
    assert str(caught.value) == (
        f"run_dir = {str(tmp_path)!r}: was made with env and network of your own, which no file "
        f"holds; pass the same again, in Python: jaxdrl.restore({str(tmp_path)!r}, env=my_env, "
        "network=my_network)"
    )
    _, _, state = jaxdrl.restore(tmp_path, env=counting_env(), network=OwnNetwork())
    assert sha256(state) == run.result["state_sha256"]
    with pytest.raises(ConfigError, match=r"does not fit CartPole-v1 .*the run was made on obs"):
        jaxdrl.restore(tmp_path, env=jaxdrl.make("CartPole-v1"), network=OwnNetwork())


def test_a_run_starts_with_what_another_one_learnt(cartpole, tmp_path):
    changed = dataclasses.replace(
        CARTPOLE,
        env_params={"max_steps_in_episode": 9, "length": 0.7},
        from_run=cartpole.run_dir,
        run_dir=tmp_path / "warm",
        algorithm=dataclasses.replace(PPO, learning_rate=1e-30),
        anneal_learning_rate=False,
        total_env_steps=128,
    )
    run, _ = run_quietly(changed)
    learnt, before = run.state.learner.params, cartpole.run.state.learner.params
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((learnt, before)))
    assert run.env.max_episode_steps == 9
    wider = with_settings(PPO, hidden_sizes=(16,))
    with pytest.raises(ConfigError, match=r"--from wants the same spaces and network: learner/par"):
        run_quietly(dataclasses.replace(changed, run_dir=tmp_path / "wide", algorithm=wider))
    assert not (tmp_path / "wide").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {},
            r"total_env_steps = 300 has been reached; --total-env-steps M with M above 384 ext",
        ),
        ({"total_env_steps": 256}, r"total_env_steps = 256 has been reached"),
        ({"devices": 3}, r"^devices = 3: must divide num_shards = 8"),
        ({"total_env_steps": 0}, r"^total_env_steps = 0: must be an integer of at least 1"),
        ({"checkpoint": 7}, r"^checkpoint = 7: not in .*; it has those of updates 2, 3"),
    ],
)
def test_what_cannot_be_resumed_is_refused_and_untouched(cartpole, arguments, message):
    before = (cartpole.run_dir / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=message):
        resumed(cartpole.run_dir, **arguments)
    assert (cartpole.run_dir / "metrics.jsonl").read_bytes() == before
    assert (cartpole.run_dir / "result.json").exists()


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a run \("):
        resumed(tmp_path / "nothing")


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(cartpole, tmp_path, monkeypatch):
    write, failed = checkpoint.write, []

    def write_when_there_is_space(directory, update, *args):
        if update == 1:
            failed.append(update)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(directory, update, *args)

    monkeypatch.setattr(checkpoint, "write", write_when_there_is_space)
    changed = dataclasses.replace(CARTPOLE, run_dir=tmp_path, checkpoint_every=1)
    run, output = run_quietly(changed)
    assert failed == [1]
    assert "the checkpoint of update 1 was not written (No space left on device)" in output
    assert updates_in(tmp_path / "checkpoints") == [2, 3]
    assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]


def test_a_run_of_bad_numbers_stops_and_says_what_went_wrong(tmp_path):
    """Rewards are NaN from step 21 on, in the third update of eight steps."""
    bad = Experiment(
        env="mine",
        total_env_steps=20 * 128,
        devices=2,
        run_dir=tmp_path,
        checkpoint_every=1,
        max_skipped_updates=3,
        algorithm=PPO,
    )
    with pytest.raises(NonFiniteError) as caught:
        run_quietly(bad, env=probes.bad_reward(21, for_ever=True))
    assert str(caught.value).startswith(
        "stopped: no gradient step of the last 3 updates was finite. First went wrong: rewards "
        f"(NaN, infinite or beyond 1e15), since update 3 (then gradients since "
        f"update 3). The last good checkpoint is {tmp_path}"
    )
    assert set(updates_in(tmp_path / "checkpoints")) <= {1, 2}
    assert not (tmp_path / "result.json").exists()


def test_a_run_whose_last_update_changed_nothing_is_not_finished(tmp_path):
    """Of an optimiser that makes NaN of finite gradients from the third update's first step on."""

    def init(params):
        return jnp.zeros((), jnp.int32)

    def update(updates, count, params=None):
        scale = jnp.where(count < 4, -0.01, jnp.nan)
        return jax.tree.map(lambda u: scale * u, updates), count + 1

    short = dataclasses.replace(CARTPOLE, run_dir=tmp_path, checkpoint_every=1)
    with pytest.raises(NonFiniteError) as caught:
        run_quietly(short, optimizer=optax.GradientTransformation(init, update))
    assert str(caught.value) == (
        "stopped: no gradient step of the last update was finite. First went wrong: parameters or "
        "optimiser state, of finite gradients, since update 3. The last good checkpoint is "
        f"{tmp_path / 'checkpoints' / '00000002'}"
    )
    assert not (tmp_path / "result.json").exists()
    (last,) = [line for line in lines_of(tmp_path) if line["update"] == 3]
    assert last["skipped_steps"] == last["nonfinite_params"] == PPO.num_minibatches


def test_a_run_is_the_same_under_any_default_of_jax_for_keys(cartpole, tmp_path):
    changed = dataclasses.replace(CARTPOLE, run_dir=tmp_path)
    forbidden = jax.transfer_guard("disallow")
    with jax.default_prng_impl("rbg"), jax.threefry_partitionable(False), forbidden:
        run, _ = run_quietly(changed)
        found = jaxdrl.evaluate_run(tmp_path, num_episodes=8)
    assert run.result["state_sha256"] == cartpole.run.result["state_sha256"]
    assert run.result["evaluation"] == cartpole.run.result["evaluation"]
    expected = jaxdrl.evaluate_run(cartpole.run_dir, num_episodes=8)
    np.testing.assert_array_equal(found.evaluation.returns, expected.evaluation.returns)


def test_a_policy_that_is_not_finite_is_neither_evaluated_nor_gone_on_with(cartpole, tmp_path):
    """As an older version saved one."""
    run_dir = tmp_path / "run"
    shutil.copytree(cartpole.run_dir, run_dir)
    path = checkpoint.path_of(run_dir / "checkpoints", 3)
    manifest = checkpoint.read_manifest(path)
    arrays = dict(np.load(path / checkpoint.STATE_FILE))
    (name,) = [name for name in arrays if name.endswith("params/value/bias")]
    arrays[name] = arrays[name] * np.float32(np.nan)
    checkpoint.write(path.parent, 3, arrays, manifest["arrays"], manifest)
    words = rf"00000003: the learner in it is not finite: {name} .* update 2$"
    for verb in (
        jaxdrl.restore,
        jaxdrl.evaluate_run,
        lambda run_dir: jaxdrl.export_policy(run_dir, tmp_path / "policy.zip"),
        lambda run_dir: resumed(run_dir, total_env_steps=600),
        lambda run_dir: run_quietly(
            dataclasses.replace(CARTPOLE, run_dir=tmp_path / "next", from_run=run_dir)
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            verb(run_dir)
    assert int(jaxdrl.restore(run_dir, checkpoint=2).state.learner.num_updates) == 2


def test_the_operation_that_makes_a_nan_is_found(tmp_path):
    def step(key, position, action, params):
        root = jnp.sqrt(1.0 - position)  # of a negative number from the 12th step on
        position, no = position + 0.1, jnp.zeros((), jnp.bool)
        return position[None], position, root, no, no, {}

    def reset(key, params):
        del key, params
        position = jnp.zeros((), jnp.float32)
        return position[None], position

    box = spaces.Box(-10.0, 10.0, (1,))
    env = Environment("roots", reset, step, box, spaces.Discrete(2))
    debugged = dataclasses.replace(CARTPOLE, run_dir=tmp_path, debug_nans=True)
    with pytest.raises(NonFiniteError) as caught:
        run_quietly(debugged, env=env)
    line = step.__code__.co_firstlineno + 1
    assert str(caught.value).startswith("update 2 (nonfinite_rewards ")
    assert f"nan generated by primitive: sqrt. {__file__}:{line} (" in str(caught.value)


def test_the_commands_for_when_things_go_wrong_do_what_they_say(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.split("## Preemption and resume")[1]
    commands = section.split("```bash\n")[1].split("```")[0].splitlines()
    assert len(commands) == 4
    monkeypatch.chdir(tmp_path)
    digests = []
    for command in commands:
        program, *args = shlex.split(command)
        assert program == "jaxdrl"
        with contextlib.redirect_stdout(io.StringIO()):
            main.main(args)
        digests.append(read(tmp_path / "runs" / "second", "result.json")["state_sha256"])
    second = read(tmp_path / "runs" / "second", "result.json")
    assert (second["updates"], second["devices"]) == (11, 8)
    assert read(tmp_path / "runs" / "third", "config.json")["env_params"]["length"] == 1.0
    assert digests[0] != digests[1]
    rates = [line["learning_rate"] for line in lines_of(tmp_path / "runs" / "second")]
    assert rates[-1] > 0  # over the new length
    assert rates == sorted(rates[:8], reverse=True) + sorted(rates[8:], reverse=True)
