"""An algorithm of a user's own goes everywhere that PPO goes, by `make_algorithm` alone."""

import contextlib
import dataclasses
import io

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl.cli import main
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from jaxdrl.runs.checkpoint import updates_in
from reinforce import ReinforceConfig, reinforce
from small_runs import lines_of, read, resumed, run_quietly, stopped_after
from small_sweeps import quietly

OWN = {"make_algorithm": reinforce}
CONFIG = ReinforceConfig(
    num_envs=16, num_steps=8, network=jaxdrl.NetworkConfig(hidden_sizes=(8,)), learning_rate=0.003
)
EXPERIMENT = Experiment(
    env="CartPole-v1",
    env_params={"max_steps_in_episode": 12},
    total_env_steps=4 * 128,
    devices=2,
    evaluate_every=2,
    num_eval_episodes=8,
    algorithm=CONFIG,
)

pytestmark = pytest.mark.usefixtures("compile_cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run to its end."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    return run_quietly(dataclasses.replace(EXPERIMENT, run_dir=run_dir), **OWN)[0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep over its learning rate, in two waves."""
    run_dir = tmp_path_factory.mktemp("runs") / "sweep"
    members = Sweep({"learning_rate": "log:0.001:0.1"}, members=3, wave_size=2)
    experiment = dataclasses.replace(EXPERIMENT, run_dir=run_dir, sweep=members)
    return run_quietly(experiment, **OWN)[0]


def printed(command):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main.main(list(map(str, command)))
    return output.getvalue()


def test_a_run_leaves_what_every_run_leaves(whole):
    config, lines = read(whole.run_dir, "config.json"), lines_of(whole.run_dir)
    assert config["experiment"]["algorithm"]["kind"] == "ReinforceConfig"
    assert config["experiment"]["algorithm"]["learning_rate"] == 0.003
    assert config["overrides"] == ["make_algorithm"]
    assert [line["update"] for line in lines] == [1, 2, 3, 4]
    assert {"policy_loss", "value_loss", "grad_norm", "episode_return"} <= set(lines[-1])
    assert updates_in(whole.run_dir / "checkpoints")[-1] == 4
    assert whole.result["updates"] == 4


def test_a_run_that_was_stopped_ends_as_if_nothing_had_happened(whole, tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path)
    words = stopped_after(3, experiment, **OWN)
    call = f"jaxdrl.resume({str(tmp_path)!r}, make_algorithm=my_make_algorithm) in Python"
    assert words == (
        f"SIGTERM: stopped after update 3 of 4. The checkpoint of update 3 is saved; "
        f"resume with: {call}"
    )
    ended, _ = resumed(tmp_path, **OWN)
    for name in ("state_sha256", "evaluation"):
        assert ended.result[name] == whole.result[name]


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("resume", {}),
        ("evaluate_run", {}),
        ("restore", {}),
        ("export_policy", {"out": "a.zip"}),
    ],
)
def test_without_make_algorithm_one_message_says_what_is_missing(whole, verb, arguments):
    with pytest.raises(ConfigError) as caught:
        quietly(getattr(jaxdrl, verb), whole.run_dir, **arguments)
    assert str(caught.value) == (
        f"run_dir = {str(whole.run_dir)!r}: was made with make_algorithm of your own, which no "
        "file holds; pass the same again, in Python: "
        f"jaxdrl.{verb}({str(whole.run_dir)!r}, make_algorithm=my_make_algorithm)"
    )


def test_a_command_cannot_be_given_it_and_says_so(whole, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["resume", str(whole.run_dir)])
    assert caught.value.code == 2
    assert "make_algorithm=my_make_algorithm" in "".join(capsys.readouterr())


@dataclasses.dataclass(frozen=True)
class OtherConfig(ReinforceConfig):
    """Settings of another algorithm."""


def other(env, config: OtherConfig, *, mesh=None) -> jaxdrl.Algorithm:
    """Another algorithm."""
    return reinforce(env, config, mesh=mesh)


def test_another_algorithm_than_that_of_the_run_is_refused(whole):
    with pytest.raises(ConfigError) as caught:
        quietly(jaxdrl.resume, whole.run_dir, make_algorithm=other)
    assert str(caught.value) == (
        f"{whole.run_dir / 'config.json'}: algorithm.kind = 'ReinforceConfig': make_algorithm "
        "takes OtherConfig; give the one that the run had"
    )


def test_a_run_of_such_settings_without_make_algorithm_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^algorithm: ReinforceConfig .*make_algorithm"):
        run_quietly(dataclasses.replace(EXPERIMENT, run_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_it_is_evaluated_as_it_was_trained(whole):
    found = quietly(jaxdrl.evaluate_run, whole.run_dir, num_episodes=8, **OWN)
    assert found.evaluation.num_episodes == 8
    env, agent, state = jaxdrl.restore(whole.run_dir, **OWN)
    jax.tree.map(
        np.testing.assert_array_equal,
        state.learner.params,
        jax.device_get(whole.state.learner.params),
    )
    assert env.name == "CartPole-v1"
    state, _ = jax.jit(agent.train_step)(state)
    assert int(state.learner.num_updates) == 5


def test_watch_shows_it(whole):
    text = printed(["watch", whole.run_dir, "--once"])
    for words in ("CartPole-v1", "512", "finished"):
        assert words in text


def test_its_policy_is_exported(whole, tmp_path):
    out = tmp_path / "policy.zip"
    quietly(jaxdrl.export_policy, whole.run_dir, out, **OWN)
    policy = jaxdrl.load_policy(out)
    action = policy(np.zeros((3, 4), np.float32))
    assert np.asarray(action).shape == (3,)


def test_a_warm_start_takes_what_another_run_learnt(whole, tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path, from_run=whole.run_dir)
    begun = []

    def on_update(update, metrics):
        begun.append(metrics)
        return True

    run, _ = run_quietly(experiment, on_update=on_update, **OWN)
    assert run.result["stopped_early"]
    first = lines_of(whole.run_dir)[0]
    assert begun[0]["value_loss"] != first["value_loss"]


def test_its_hyperparameter_is_swept_in_waves(sweep, tmp_path):
    result = sweep.result
    assert len(result["settings"]) == 3
    values = [row["hyperparams"]["learning_rate"] for row in result["settings"]]
    assert len(set(values)) == 3
    assert all(0.001 <= value <= 0.1 for value in values)
    best = read(sweep.run_dir, "best.json")["experiment"]["algorithm"]
    assert best["learning_rate"] == values[0]
    with pytest.raises(ConfigError, match="make_algorithm=my_make_algorithm"):
        quietly(jaxdrl.evaluate_run, sweep.run_dir)
    found = quietly(jaxdrl.evaluate_run, sweep.run_dir, member=2, num_episodes=8, **OWN)
    assert found.evaluation.num_episodes == 8
    assert "CartPole-v1" in printed(["watch", sweep.run_dir, "--once"])
    quietly(jaxdrl.export_policy, sweep.run_dir, tmp_path / "best.zip", **OWN)


def test_its_sweep_is_extended(sweep):
    longer = quietly(jaxdrl.resume, sweep.run_dir, total_env_steps=5 * 128, **OWN)
    assert longer.result["updates"] == 5


def test_a_population_of_it_exploits_and_explores(tmp_path):
    pbt = Sweep({"learning_rate": "log:0.001:0.1"}, members=4, pbt=True, pbt_every=2)
    run, _ = run_quietly(dataclasses.replace(EXPERIMENT, run_dir=tmp_path, sweep=pbt), **OWN)
    assert len(run.result["settings"]) == 4
    assert (tmp_path / "lineage.jsonl").exists()
    assert "CartPole-v1" in printed(["watch", tmp_path, "--once"])


def test_a_search_over_its_shapes(tmp_path):
    sweep = Sweep({}, members=1, shapes={"num_steps": "4,8"}, trials=2)
    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path, sweep=sweep)
    run, _ = run_quietly(experiment, **OWN)
    assert {row["shape"]["num_steps"] for row in run.result["settings"]} == {"4", "8"}
    (tmp_path / "result.json").unlink()
    (tmp_path / "trials/1/result.json").unlink()
    (tmp_path / "optuna.db").unlink()
    again = quietly(jaxdrl.resume, tmp_path, **OWN)
    assert again.result["settings"] == run.result["settings"]
    assert "CartPole-v1" in printed(["watch", tmp_path, "--once"])


@dataclasses.dataclass(frozen=True)
class FixedConfig:
    """Settings of which none can vary."""

    num_envs: int = 16
    env_steps_per_update: int = 128
    execution: jaxdrl.ExecutionConfig = jaxdrl.ExecutionConfig()


def test_an_algorithm_without_hyperparameters_is_told_how_to_declare_one():
    fixed = dataclasses.replace(EXPERIMENT, algorithm=FixedConfig())
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(fixed, sweep=Sweep({"rate": "0.1:0.3"}))
    assert str(caught.value) == (
        "hyperparams.rate: the algorithm has no hyperparameters that can vary; a float field of "
        "its settings is one if its default is jaxdrl.hyperparameter(...)"
    )


def test_a_setting_that_is_not_a_hyperparameter_of_it_is_refused():
    with pytest.raises(ConfigError, match=r"clip_coef"):
        dataclasses.replace(EXPERIMENT, sweep=Sweep({"clip_coef": "0.1:0.3"}))
