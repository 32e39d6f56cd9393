"""What `resume` changes of an experiment: its length, and what its length sets."""

import dataclasses
import json

import optax
import pytest

from jaxdrl import launch
from jaxdrl.cli import main
from jaxdrl.config.experiment import Experiment, resolve
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.config.stored import to_json
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs.changes import Changes, changes_of, extend, idle_words, schedule_words
from jaxdrl.runs.overrides import Overrides

PPO = PPOConfig(num_envs=16, num_steps=8, num_minibatches=2)


def stored(tmp_path, *, anneal=True, over=None, total=1000, **fields):
    """The experiment of a run as its config has it."""
    ppo = dataclasses.replace(PPO, anneal_env_steps=over)
    fields |= {"run_dir": tmp_path, "anneal_learning_rate": anneal, "total_env_steps": total}
    return resolve(Experiment("CartPole-v1", algorithm=ppo, **fields))


@pytest.mark.parametrize("total", [901, 1500, 10_000])
def test_a_schedule_that_the_length_set_follows_the_new_length(tmp_path, total):
    before = stored(tmp_path)
    assert before.algorithm.anneal_env_steps == 1000
    after = extend(before, Changes(total_env_steps=total), 7)
    assert (after.total_env_steps, after.algorithm.anneal_env_steps) == (total, total)
    words = schedule_words(before, after, Overrides())
    assert f"over {total:,} steps" in words
    assert "over 1,000" in words
    assert "--keep-schedule" in words
    assert extend(after, Changes(total_env_steps=20_000), 7).algorithm.anneal_env_steps == 20_000


def test_a_schedule_is_kept_on_demand_and_from_then_on(tmp_path):
    before = stored(tmp_path)
    after = extend(before, Changes(total_env_steps=1500, keep_schedule=True), 7)
    assert (after.total_env_steps, after.algorithm.anneal_env_steps) == (1500, 1000)
    assert "learning rate: 0 from step 1,000" in schedule_words(before, after, Overrides())
    again = extend(after, Changes(total_env_steps=2000), 7)
    assert (again.total_env_steps, again.algorithm.anneal_env_steps) == (2000, 1000)


@pytest.mark.parametrize(("anneal", "over"), [(True, 700.0), (False, 700.0), (False, 1000.0)])
def test_a_schedule_of_ones_own_stays_and_its_idle_end_is_said(tmp_path, anneal, over):
    before = stored(tmp_path, anneal=anneal, over=over)
    after = extend(before, Changes(total_env_steps=1500), 7)
    assert after.algorithm.anneal_env_steps == over
    words = schedule_words(before, after, Overrides())
    assert words.startswith(f"learning rate: 0 from step {over:,.0f}")
    assert "the end at 1,500" in words
    assert schedule_words(before, after, Overrides(optimizer=optax.sgd(0.1))) is None


def test_without_another_length_nothing_is_changed_or_said(tmp_path):
    for before in (stored(tmp_path), stored(tmp_path, anneal=False)):
        after = extend(before, Changes(devices=2), 3)
        assert after == dataclasses.replace(before, devices=2)
        assert schedule_words(before, after, Overrides()) is None


def test_no_end_is_idle_where_the_rate_stays_above_zero(tmp_path):
    own = stored(tmp_path, over=500.0)
    assert idle_words(own, Overrides()) is not None
    final = dataclasses.replace(own.algorithm, final_learning_rate=1e-5)
    assert idle_words(dataclasses.replace(own, algorithm=final), Overrides()) is None
    # The last update, which is rounded up, begins before the end of the schedule.
    assert idle_words(stored(tmp_path), Overrides()) is None
    assert idle_words(stored(tmp_path, anneal=False), Overrides()) is None
    sweep = Sweep({"anneal_env_steps": "500:2000"}, members=2)
    assert idle_words(dataclasses.replace(own, sweep=sweep), Overrides()) is None


@pytest.mark.parametrize("name", ["config.json", "best.json"])
def test_a_config_from_a_file_is_annealed_over_the_length_of_the_flags(tmp_path, monkeypatch, name):
    fields = to_json(stored(tmp_path)) | {"run_dir": None}
    (tmp_path / name).write_text(json.dumps({"experiment": fields}))
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    config = ["--config", str(tmp_path / name)]
    main.main(["train", *config, "--total-env-steps", "3000"])
    main.main(["train", *config, "--total-env-steps", "3000", "--anneal-env-steps", "700"])
    main.main(["train", *config])
    assert [resolve(one).algorithm.anneal_env_steps for one in received] == [3000, 700, 1000]


def finished(tmp_path, **result):
    write_sealed(tmp_path / "result.json", result)


def called(tmp_path, **fields):
    """The experiment of a call, in which nothing is filled in yet."""
    return stored(tmp_path, anneal=False, **fields)


def test_a_call_that_is_repeated_changes_nothing(tmp_path):
    before = stored(tmp_path)
    given = dataclasses.replace(before, algorithm=PPO)  # before anything is filled in
    went_on = Changes(is_elastic=True)
    assert changes_of(before, given, tmp_path) == went_on
    finished(tmp_path, stopped_early=True)  # on_update has ended it
    assert changes_of(before, given, tmp_path) == went_on
    finished(tmp_path)
    assert changes_of(before, given, tmp_path) is None


def test_a_longer_call_extends_a_run_that_is_done(tmp_path):
    finished(tmp_path)
    before = stored(tmp_path)
    longer = dataclasses.replace(before, algorithm=PPO, total_env_steps=2000)
    changes = changes_of(before, longer, tmp_path)
    assert changes == Changes(total_env_steps=2000, is_elastic=True)
    after = extend(before, changes, before.num_updates)
    assert (after.total_env_steps, after.algorithm.anneal_env_steps) == (2000, 2000)
    own = stored(tmp_path, over=700.0)
    longer = dataclasses.replace(own, total_env_steps=2000)
    changes = changes_of(own, longer, tmp_path)
    assert changes == Changes(total_env_steps=2000, keep_schedule=True, is_elastic=True)
    assert extend(own, changes, own.num_updates).algorithm.anneal_env_steps == 700


@pytest.mark.parametrize("before", [None, 2, 8])
@pytest.mark.parametrize("now", [None, 4])
def test_devices_and_the_limit_of_patience_may_change(tmp_path, before, now):
    run = called(tmp_path, devices=before)
    again = called(tmp_path, devices=now, stuck_after=3.0)
    changes = changes_of(run, dataclasses.replace(again, run_dir=None), tmp_path)
    assert changes == Changes(devices=now, keep_schedule=True, is_elastic=True)
    assert extend(run, changes, 1) == dataclasses.replace(run, devices=now)
    finished(tmp_path)
    assert changes_of(run, again, tmp_path) is None


def test_resume_without_devices_keeps_the_number(tmp_path):
    assert extend(called(tmp_path, devices=2), Changes(), 1).devices == 2


@pytest.mark.parametrize(
    ("field", "was", "now", "settings"),
    [
        ("seed", "0", "1", {"seed": 1}),
        ("learning_rate", "0.001", "0.5", {"learning_rate": 0.5}),
        ("num_envs", "16", "32", {"num_envs": 32}),
        ("checkpoint_every", "None", "3", {"checkpoint_every": 3}),
        ("anneal_env_steps", "None", "700.0", {"anneal_env_steps": 700.0}),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True])
def test_another_setting_is_refused_by_name(tmp_path, field, was, now, settings, is_finished):
    if is_finished:
        finished(tmp_path)
    run = with_settings(called(tmp_path), learning_rate=0.001)
    with pytest.raises(ConfigError) as caught:
        changes_of(run, with_settings(run, **settings), tmp_path)
    assert str(caught.value) == (
        f"run_dir = {str(tmp_path)!r}: holds a run with {field} = {was}, and not {now}; "
        f"give {field} as it was, or name another directory"
    )


def test_a_sweep_is_that_which_was_called(tmp_path):
    def sweep(**fields):
        return called(tmp_path, sweep=Sweep({"learning_rate": "log:1e-4:1e-2"}, **fields))

    in_waves = sweep(members=8, wave_size=2)  # as memory allowed
    assert changes_of(in_waves, sweep(members=8), tmp_path) is not None
    assert changes_of(in_waves, in_waves, tmp_path) is not None
    for other in (sweep(members=9), sweep(members=8, wave_size=4), called(tmp_path)):
        with pytest.raises(ConfigError, match=r"holds a run with [\w.]+ = "):
            changes_of(in_waves, other, tmp_path)
    with pytest.raises(ConfigError, match=r"holds a run with [\w.]+ = "):
        changes_of(called(tmp_path), in_waves, tmp_path)
