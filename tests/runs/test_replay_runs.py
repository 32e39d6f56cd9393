"""Runs of an algorithm with a replay buffer: resumed, played, exported, and begun from."""

import dataclasses
import hashlib
import shutil

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl.config.algorithms import can_start_from
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint, staging
from jaxdrl.runs.metrics_log import sha256
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import load_player
from small_runs import CARTPOLE, run_quietly, stopped_after

DQN = with_settings(
    DQNConfig(),
    num_envs=8,
    num_steps=4,
    num_gradient_steps=2,
    buffer_size=128,
    batch_size=16,
    learning_starts=64,
    hidden_sizes=(8,),
    num_shards=2,
)
EXPERIMENT = Experiment(
    env="CartPole-v1",
    total_env_steps=6 * 32,
    devices=2,
    evaluate_every=3,
    checkpoint_every=2,
    num_eval_episodes=4,
    algorithm=DQN,
)


@pytest.fixture(scope="module", autouse=True)
def staged():
    """All of the buffer is written before the next step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "STAGED_BYTES", 1)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("replay") / "run"
    return run_quietly(dataclasses.replace(EXPERIMENT, run_dir=run_dir))[0]


def without_actor(run_dir, where):
    """A copy of a run whose last checkpoint has lost all arrays of the actor."""
    shutil.copytree(run_dir, where)
    path = checkpoint.path_of(where / "checkpoints", 6)
    with np.load(path / "state.npz") as arrays:
        kept = {name: arrays[name] for name in arrays if not name.startswith("actor/")}
        assert len(kept) < len(list(arrays))
    np.savez(path / "state.npz", **kept)
    names = ("manifest.json", "state.npz")
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    (path / "SHA256SUMS").write_bytes(checkpoint.digests_text(digests))
    return where


def test_a_run_that_was_stopped_goes_on_with_its_buffer(run, tmp_path):
    stopped = dataclasses.replace(EXPERIMENT, run_dir=tmp_path / "run")
    stopped_after(4, stopped)
    assert not list((stopped.run_dir / "checkpoints").glob(".writing*"))
    resumed = jaxdrl.resume(stopped.run_dir, quiet=True)
    assert resumed.result["state_sha256"] == run.result["state_sha256"]
    assert int(resumed.state.actor.replay.size[0]) == 16
    _, _, state = jaxdrl.restore(stopped.run_dir)
    assert sha256(state) == run.result["state_sha256"]


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_actor_and_critics_go_on_with_their_buffer(name, tmp_path):
    config = with_settings(
        {"sac": jaxdrl.SACConfig(), "td3": jaxdrl.TD3Config()}[name],
        **{"num_steps": 4, "num_gradient_steps": 3, "buffer_size": 128, "batch_size": 16},
        **{"learning_starts": 64, "hidden_sizes": (8,), "num_shards": 2},
    )
    experiment = dataclasses.replace(EXPERIMENT, env="Pendulum-v1", algorithm=config)
    whole, _ = run_quietly(dataclasses.replace(experiment, run_dir=tmp_path / "whole"))
    stopped = dataclasses.replace(experiment, run_dir=tmp_path / "run")
    stopped_after(4, stopped)
    resumed = jaxdrl.resume(stopped.run_dir, quiet=True)
    assert resumed.result["state_sha256"] == whole.result["state_sha256"]


def test_a_policy_is_played_without_its_buffer(run, tmp_path):
    run_dir = without_actor(run.run_dir, tmp_path / "run")
    players = [load_player(where, Overrides(), "evaluate") for where in (run.run_dir, run_dir)]
    assert sha256(players[0].learner) == sha256(players[1].learner)
    assert players[1].update == 6
    found = jaxdrl.evaluate_run(run_dir, num_episodes=4)
    assert found is not None
    with pytest.raises(ConfigError, match="is not an archive of these arrays"):
        jaxdrl.restore(run_dir)


def test_a_member_is_played_without_its_buffer(tmp_path):
    sweep = Sweep({"learning_rate": "log:1e-4:1e-3"}, members=2)
    swept = dataclasses.replace(EXPERIMENT, sweep=sweep, run_dir=tmp_path / "sweep")
    run_quietly(swept)
    run_dir = without_actor(swept.run_dir, tmp_path / "without")
    _, _, state = jaxdrl.restore(swept.run_dir, member=1)
    player = load_player(run_dir, Overrides(), "evaluate", member=1)
    assert sha256(player.learner.params) == sha256(state.learner.params)
    assert list(player.learner.hyperparams) == ["learning_rate"]


def test_a_run_starts_with_parameters_and_targets(run, tmp_path):
    rate = dataclasses.replace(DQN, learning_rate=1e-30, target_update_every=10_000)
    experiment = dataclasses.replace(
        EXPERIMENT, algorithm=rate, from_run=run.run_dir, run_dir=tmp_path / "warm"
    )
    warm, _ = run_quietly(experiment)
    for name in ("params", "target_params"):
        found, learnt = (getattr(r.state.learner, name) for r in (warm, run))
        jax.tree.map(np.testing.assert_array_equal, *jax.device_get((found, learnt)))


@pytest.mark.usefixtures("no_compile")
def test_other_algorithms_do_not_start_from_it(run, tmp_path):
    experiment = dataclasses.replace(CARTPOLE, from_run=run.run_dir, run_dir=tmp_path / "warm")
    with pytest.raises(ConfigError) as caught:
        run_quietly(experiment)
    assert str(caught.value) == (
        f"from = {str(run.run_dir)!r}: is a run of dqn, whose parameters ppo cannot use; name a "
        "run of ppo"
    )
    assert not (tmp_path / "warm").exists()


def test_which_algorithms_start_from_which():
    assert can_start_from("dqn", "dqn") and can_start_from("mine", "ppo")
    assert can_start_from("ppo", "impala") and can_start_from("impala", "ppo")
    assert not can_start_from("dqn", "ppo") and not can_start_from("impala", "dqn")
