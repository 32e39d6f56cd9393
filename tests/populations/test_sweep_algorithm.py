"""Sweeps as runs: trained, resumed, looked at."""

import contextlib
import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl import launch
from jaxdrl.algorithms.ppo import objective
from jaxdrl.analysis.learning_curves import read_curve
from jaxdrl.analysis.watch import take
from jaxdrl.cli import main
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.core.types import REQUIRED_METRICS
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.populations import sweep_algorithm
from jaxdrl.runs import pbt_log
from jaxdrl.runs.assemble import evaluation_key
from jaxdrl.runs.run_dir import read_metrics
from probe_games import higher_number
from small_runs import CARTPOLE, PPO, config_of
from small_sweeps import quietly

RANGES = {
    "learning_rate": "log:0.0001:0.01",
    "entropy_coef": "0:0.02",
    "observation_clip": "0.01:1.0",
}
STEPS = {"num_steps": "8,16"}
SWEEP = dataclasses.replace(
    CARTPOLE,
    total_env_steps=6 * 128,
    anneal_learning_rate=False,
    evaluate_every=None,
    checkpoint_every=3,
    keep_checkpoints=3,
    algorithm=with_settings(PPO, reproducible=True, normalize_observations=True),
    sweep=Sweep(RANGES, members=4, pbt=True, pbt_every=2, pbt_fraction=0.25),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four members, six updates, three exchanges, on two devices."""
    path = tmp_path_factory.mktemp("runs") / "sweep"
    return quietly(jaxdrl.run, dataclasses.replace(SWEEP, run_dir=path))


def test_the_files_of_a_sweep(run):
    names = {path.name for path in run.run_dir.iterdir()}
    pictures = {"response.png", "parallel.png", "lineage.png"}
    assert {"config.json", "metrics.jsonl", "result.json", "best.json", "lineage.jsonl"} <= names
    assert pictures <= names
    result = json.loads((run.run_dir / "result.json").read_text())
    assert sorted(row["setting"] for row in result["settings"]) == [0, 1, 2, 3]
    returns = result["evaluation"]["member_returns"]
    assert result["evaluation"]["mean_return"] == max(returns)
    assert returns[result["evaluation"]["best_member"]] == max(returns)


def test_members_whose_agents_play_against_each_other_are_not_ranked_by_their_own_episodes():
    for sweep, is_refused in ((SWEEP.sweep, True), (Sweep(RANGES, members=4), False)):
        experiment = dataclasses.replace(SWEEP, sweep=sweep)
        context = pytest.raises(ConfigError, match=r"pbt = True.* higher_number play against")
        with context if is_refused else contextlib.nullcontext():
            sweep_algorithm.make_population(higher_number(), experiment, None)


def test_the_lineage_replays_to_the_hyperparameters_of_the_state(run):
    first = run_experiment(run).sweep.values(SWEEP.seed)
    history = pbt_log.replay(first, pbt_log.read(run.run_dir))
    for name, values in history.items():
        assert len(values) == 4
        np.testing.assert_array_equal(values[-1], run.state.hyperparams[name])


def run_experiment(run):
    return jaxdrl.runs.assemble.read_run(run.run_dir).experiment


def test_a_sweep_resumed_across_an_exchange_has_the_bits_of_one_that_never_stopped(run, tmp_path):
    short = dataclasses.replace(SWEEP, run_dir=tmp_path / "sweep", total_env_steps=3 * 128)
    quietly(jaxdrl.run, short)
    # Over two exchanges. On other devices: runs/test_runs_on_devices.py.
    resumed = quietly(jaxdrl.resume, short.run_dir, total_env_steps=SWEEP.total_env_steps)
    for name in ("state_sha256", "params_sha256", "settings", "evaluation"):
        assert resumed.result[name] == run.result[name], name
    ours, theirs = (pbt_log.read(one.run_dir) for one in (resumed, run))
    assert ours == theirs


def test_lines_have_scalars_over_members_and_arrays_of_them(run):
    record = read_metrics(run.run_dir)[1]
    assert isinstance(record["entropy"], float)
    assert record["entropy"] == pytest.approx(np.mean(record["members/entropy"]))
    assert len(record["members/episode_return"]) == 4
    assert sorted(record["members/parent"]) != [0, 1, 2, 3]
    assert record["env_steps"] == 2 * 128


def test_curves_and_the_live_view_read_it(run):
    assert np.isfinite(read_curve(run.run_dir).values[1:]).any()
    with pytest.raises(ConfigError, match="metric = 'members/entropy'"):
        read_curve(run.run_dir, "members/entropy")
    assert take(run.run_dir).state == "finished"


def test_a_member_is_given_back_as_an_agent_of_its_own(run):
    _, agent, state = jaxdrl.restore(run.run_dir, member=2)
    for ours, theirs in zip(
        jax.tree.leaves(state.learner.params),
        jax.tree.leaves(jax.tree.map(lambda x: x[2], run.state.learner.params)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    state, metrics = jax.jit(agent.train_step)(state)
    assert float(metrics["learning_rate"]) == float(run.state.hyperparams["learning_rate"][2])
    assert int(state.learner.num_updates) == 7


def test_members_are_evaluated_by_the_policies_that_restore_gives_back(run):
    returns = run.result["evaluation"]["member_returns"]
    key = evaluation_key(SWEEP, 6)
    for member in range(4):
        env, agent, state = jaxdrl.restore(run.run_dir, member=member)
        clip = float(run.state.hyperparams["observation_clip"][member])
        again = jaxdrl.evaluate(
            env, agent.policy, state.learner, jax.random.clone(key), num_episodes=8
        )
        assert again.mean_return == returns[member], clip
    own, everybodys = (
        jaxdrl.evaluate(env, policy, learner, jax.random.clone(key), num_episodes=8)
        for policy, learner in (
            (run.algorithm.policy, jaxdrl.member(run.state, 3).learner),
            (agent.policy, state.learner),
        )
    )
    np.testing.assert_array_equal(own.returns, everybodys.returns)


def test_the_best_member_is_taken_by_default(run):
    best = run.result["evaluation"]["best_member"]
    params = [
        jax.tree.leaves(jaxdrl.restore(run.run_dir, member=member).state.learner.params)[0]
        for member in (None, best, (best + 1) % 4)
    ]
    np.testing.assert_array_equal(params[0], params[1])
    assert (params[0] != params[2]).any()


def test_members_that_there_are_not_are_refused(run):
    with pytest.raises(ConfigError, match="member = 4: must be from 0 to 3"):
        jaxdrl.restore(run.run_dir, member=4)


def test_a_run_of_one_agent_has_no_members(tmp_path):
    write_sealed(tmp_path / "config.json", config_of(CARTPOLE))
    with pytest.raises(ConfigError, match=r"member = 0: .* has one agent"):
        jaxdrl.restore(tmp_path, member=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"debug_nans": True}, "debug_nans = True: is for a run of one agent"),
        ({"from_run": "x"}, "from = 'x': is for a run of one agent"),
        ({"sweep": Sweep({"gamma": "0.9:1.5"})}, "gamma = 1.5: must be .* at most 1"),
    ],
)
def test_what_does_not_go_with_a_sweep_is_refused(changes, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        quietly(jaxdrl.run, dataclasses.replace(SWEEP, run_dir=tmp_path / "x", **changes))
    assert not (tmp_path / "x").exists()


# The command


def received(monkeypatch, command):
    found = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: found.append(experiment))
    main.main(command.split())
    return found[0]


def test_flags_describe_a_sweep_over_the_settings_of_a_task(monkeypatch):
    experiment = received(
        monkeypatch,
        "sweep --members 8 Pendulum-v1 --learning-rate log:1e-4:1e-2 --seeds 2 --draw sobol "
        "--total-env-steps 1000 --num-epochs 3",
    )
    task = jaxdrl.make_experiment("Pendulum-v1")
    assert experiment.sweep == Sweep(
        {"learning_rate": "log:1e-4:1e-2"}, members=8, seeds=2, draw="sobol"
    )
    changed = dataclasses.replace(task.algorithm, num_epochs=3)
    assert experiment == dataclasses.replace(
        task, total_env_steps=1000, algorithm=changed, sweep=experiment.sweep
    )


def test_shapes_make_it_a_search(monkeypatch):
    command = "sweep --shape num-steps=8,16 --shape hidden_sizes=8x8,16 CartPole-v1 --seeds 2"
    assert received(monkeypatch, command).sweep == Sweep(
        {}, members=1, seeds=2, shapes={"num_steps": "8,16", "hidden_sizes": "8x8,16"}
    )
    ranged = received(monkeypatch, f"{command} --gamma 0.9:0.99 --trials 3").sweep
    assert (ranged.members, ranged.trials) == (16, 3)


def test_the_best_config_trains(run, monkeypatch, tmp_path):
    best = run.run_dir / "best.json"
    experiment = received(monkeypatch, f"train --config {best} --seed 7 --run-dir {tmp_path / 'x'}")
    rate = run.result["settings"][0]["hyperparams"]["learning_rate"]
    assert experiment.algorithm.learning_rate == pytest.approx(rate)
    assert (experiment.seed, experiment.sweep, experiment.devices) == (7, None, None)
    assert experiment.algorithm.num_envs == PPO.num_envs


def test_seeds_alone_make_a_sweep(monkeypatch):
    experiment = received(monkeypatch, "sweep CartPole-v1 --seeds 3")
    assert (experiment.sweep.members, experiment.sweep.num_members) == (1, 3)
    assert experiment.sweep.values(0) == {}
    rates = sweep_algorithm.hyperparams_of(experiment)["learning_rate"]
    np.testing.assert_array_equal(rates, np.full(3, experiment.algorithm.learning_rate, np.float32))


def errors_of(command):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        main.main(command.split())
    assert stop.value.code == 2
    return errors.getvalue()


def test_commands_that_cannot_work_say_why(tmp_path):
    assert "nothing varies; give at least one range" in errors_of("sweep CartPole-v1")
    wrong = "sweep CartPole-v1 --learning-rate 1e-2:1e-4"
    assert "learning_rate: range = '0.01:0.0001': must be LOW:HIGH" in errors_of(wrong)
    assert "shape = 'num_steps': must be NAME" in errors_of("sweep CartPole-v1 --shape num_steps")
    twice = "sweep CartPole-v1 --shape num_steps=8,16 --shape num-steps=4,8"
    assert "must name each setting once" in errors_of(twice)
    seeds = "sweep CartPole-v1 --gamma 0.9:0.99 --pbt --seeds 2"
    assert "sweep.seeds = 2: must be 1 with pbt" in errors_of(seeds)
    assert "cannot be read" in errors_of(f"train --config {tmp_path / 'nope.json'}")
    (tmp_path / "other.json").write_text("{}")
    assert 'must have an "experiment"' in errors_of(f"train --config {tmp_path / 'other.json'}")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"ranges": {}}, "sweep.ranges = {}: must have at least one"),
        ({"ranges": {"num_envs": "1:2"}}, "hyperparams.num_envs: shapes the program"),
        ({"ranges": {"gamma": "0.9:0.99"}, "members": 0}, "sweep.members = 0"),
        ({"ranges": {"gamma": "0.9:0.99"}, "seeds": 0}, "sweep.seeds = 0"),
        ({"ranges": {"gamma": "0.9:0.99"}, "draw": "halton"}, "must be one of random, sobol, grid"),
        ({"ranges": {"gamma": "0.9:0.99"}, "members": 1, "pbt": True}, "pbt needs at least 2"),
        ({"ranges": {"gamma": "0.9:0.99"}, "pbt_fraction": 0.9}, "sweep.pbt_fraction = 0.9"),
        ({"ranges": {"gamma": "0.9:0.99"}, "wave_size": 0}, "sweep.wave_size = 0"),
        ({"ranges": {}, "shapes": STEPS, "members": 2}, "sweep.members = 2: must be 1 where no"),
        ({"ranges": {}, "shapes": STEPS, "members": 1, "pbt": True}, "must have at least one"),
        ({"ranges": {"gamma": "0.9:0.99"}, "shapes": STEPS, "trials": 0}, "sweep.trials = 0"),
        ({"ranges": {"gamma": "0.9:0.99"}, "shapes": STEPS, "trial": 10}, "trial = 10: .* 0 to 9"),
        ({"ranges": {"gamma": "0.9:0.99"}, "trial": 0}, "sweep.trial = 0: .* search over shapes"),
        ({"ranges": {"gamma": "0.9:0.99"}, "wave_size": 4, "wave": 4}, "wave = 4: .* from 0 to 3"),
        ({"ranges": {"gamma": "0.9:0.99"}, "pbt": True, "wave_size": 4}, "trained together"),
    ],
)
def test_bad_sweeps_are_refused(fields, says):
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(CARTPOLE, sweep=Sweep(**fields))


def test_metrics_of_members_are_added_or_averaged_as_they_mean():
    """Episodes add up over members, losses do not; a member without an episode has no return."""
    reductions = REQUIRED_METRICS | objective.METRICS
    kept = [name for name, how in reductions.items() if how == "each"]
    rest = {name: jnp.array([0.2, 0.4]) for name in kept}
    counts = {"episode_return_sum": [30.0, 0.0], "episode_length_sum": [9.0, 0.0]}
    metrics = rest | {name: jnp.array(values) for name, values in counts.items()}
    metrics |= {"num_episodes": jnp.array([3.0, 0.0]), "policy_loss": jnp.array([1.0, 3.0])}
    found = sweep_algorithm.for_host({}, metrics, reductions)
    assert found["num_episodes"] == 3.0
    assert found["episode_return_sum"] == 30.0
    assert found["episode_length_sum"] == 9.0
    assert found["policy_loss"] == 2.0
    assert found["entropy"] == pytest.approx(0.3)
    np.testing.assert_array_equal(found["members/episode_return"], [10.0, np.nan])
    np.testing.assert_array_equal(found["members/entropy"], rest["entropy"])
