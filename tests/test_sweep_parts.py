"""Which directory of a sweep in parts holds what."""

import json
from dataclasses import asdict, replace

import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.hyperparams import Sweep
from jaxdrl.json_files import write_json
from jaxdrl.sweep_parts import locate, parts_of, read_result, whole_of
from small_runs import CARTPOLE

SWEEP = Sweep({"gamma": "0.9:0.99"}, members=24, wave_size=2)


def write_run(run_dir, sweep):
    run_dir.mkdir(parents=True)
    content = {"format_version": 1, "env_params": {}, "given": [], "spaces": ""}
    experiment = asdict(replace(CARTPOLE, sweep=sweep))
    write_json(run_dir / "config.json", content | {"experiment": experiment})


def write_evaluation(run_dir, mean_return, best_member):
    evaluation = {"mean_return": mean_return, "best_member": best_member, "member_ci95": []}
    write_json(run_dir / "result.json", {"evaluation": evaluation})


@pytest.fixture
def run_dir(tmp_path):
    """Twelve waves, of which eleven have begun."""
    write_run(tmp_path / "x", SWEEP)
    for wave in range(11):
        write_run(tmp_path / "x" / "waves" / str(wave), SWEEP.waves[wave])
    return tmp_path / "x"


def test_parts_are_in_their_order(run_dir, tmp_path):
    assert [int(part.name) for part in parts_of(run_dir)] == list(range(11))
    assert parts_of(run_dir / "waves" / "3") == []
    assert whole_of(run_dir / "waves" / "3") == run_dir
    assert whole_of(run_dir) == run_dir
    assert whole_of(tmp_path / "y" / "waves" / "0") == tmp_path / "y" / "waves" / "0"


def test_a_member_is_in_the_wave_of_its_number(run_dir):
    assert locate(run_dir, 7) == (run_dir / "waves" / "3", 1)
    assert locate(run_dir / "waves" / "3", 7) == (run_dir / "waves" / "3", 7)
    with pytest.raises(ConfigError, match="member = 24: must be from 0 to 23"):
        locate(run_dir, 24)
    with pytest.raises(ConfigError, match=r"member = 23: .*waves/11 has not begun"):
        locate(run_dir, 23)


def test_the_best_is_that_of_what_is_finished(run_dir):
    assert locate(run_dir, None) == (run_dir / "waves" / "10", None)
    for wave, mean in ((0, 3.0), (2, 5.0), (3, None)):
        write_evaluation(run_dir / "waves" / str(wave), mean, 1)
    assert locate(run_dir, None) == (run_dir / "waves" / "2", None)
    write_evaluation(run_dir, 9.0, 9)
    assert locate(run_dir, None) == (run_dir / "waves" / "4", 1)


def test_a_member_of_a_search_is_in_the_trial_of_its_number(tmp_path):
    search = replace(SWEEP, members=4, wave_size=3, shapes={"num_steps": "8,16,32"}, trials=3)
    write_run(tmp_path / "x", search)
    for trial in (0, 2):  # the other one was pruned
        part = tmp_path / "x" / "trials" / str(trial)
        write_run(part, replace(search, trial=trial))
        for wave in (0, 1):
            write_run(part / "waves" / str(wave), replace(search, trial=trial, wave=wave))
    assert locate(tmp_path / "x", 11) == (part / "waves" / "1", 0)
    assert whole_of(part / "waves" / "1") == tmp_path / "x"
    for member, says in ((12, "must be from 0 to 11"), (5, "trials/1 has not begun")):
        with pytest.raises(ConfigError, match=f"member = {member}: .*{says}"):
            locate(tmp_path / "x", member)


def test_what_is_not_there_is_said(run_dir, tmp_path):
    write_run(tmp_path / "new", SWEEP)
    with pytest.raises(ConfigError, match="none of its waves has begun yet"):
        locate(tmp_path / "new", None)
    part = run_dir / "waves" / "0"
    for content in ("{", json.dumps({"evaluation": {}}), "[]"):
        (part / "result.json").write_text(content)
        with pytest.raises(ConfigError, match=r"result of a sweep .*jaxdrl resume .*/x` writes"):
            read_result(part)
