"""Which member a number or a setting means, by the files of a sweep alone."""

from dataclasses import replace

import pytest
from test_nested import SWEEP, write_evaluation, write_run

from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs.nested import whole_of
from jaxdrl.runs.sweep_members import Member, Place, choose_member, describe, locate
from small_runs import CARTPOLE

SEEDS = Sweep({"gamma": "0.9:0.99"}, members=4, seeds=3)


@pytest.fixture
def run_dir(tmp_path):
    """Twelve waves of two members, of which eleven have begun."""
    write_run(tmp_path / "x", SWEEP)
    for wave in range(11):
        write_run(tmp_path / "x" / "waves" / str(wave), SWEEP.waves[wave], tmp_path / "x")
    return tmp_path / "x"


def write_returns(directory, *returns):
    evaluation = {"mean_return": 1.0, "best_member": 0, "member_ci95": []}
    evaluation |= {"member_returns": returns}
    write_sealed(directory / "result.json", {"evaluation": evaluation, "run_id": str(directory)})


def manifest(*returns):
    return {"evaluation": {"member_returns": returns}}


def test_a_member_is_in_the_wave_of_its_number(run_dir):
    assert locate(run_dir, 7) == Place(run_dir / "waves" / "3", (1,), first=6)
    with pytest.raises(ConfigError, match="member = 24: must be from 0 to 23"):
        locate(run_dir, 24)
    with pytest.raises(ConfigError, match=r"member = 23: .*waves/11 has not begun"):
        locate(run_dir, 23)
    with pytest.raises(ConfigError, match="member = 2: must be from 0 to 1"):
        locate(run_dir / "waves" / "3", 2)


def test_the_best_is_that_of_what_is_finished(run_dir):
    assert locate(run_dir) == Place(run_dir / "waves" / "10", None, first=20)
    for wave, mean in ((0, 3.0), (2, 5.0), (3, None)):
        write_evaluation(run_dir / "waves" / str(wave), mean, 1)
    assert locate(run_dir) == Place(run_dir / "waves" / "2", None, first=4)
    write_evaluation(run_dir, 9.0, 9)
    assert locate(run_dir) == Place(run_dir / "waves" / "4", (1,), first=8)
    write_evaluation(run_dir, 9.0, 23)
    with pytest.raises(ConfigError, match=r"waves/11: is missing, and holds the best member, 23;"):
        locate(run_dir)
    write_evaluation(run_dir, None, None)
    with pytest.raises(ConfigError, match="no member has a finite return; name one"):
        locate(run_dir)


def test_a_member_of_a_search_is_in_the_trial_of_its_number(tmp_path):
    sweep = replace(SWEEP, members=4, wave_size=3, shapes={"num_steps": "8,16,32"}, trials=3)
    write_run(tmp_path / "x", sweep)
    for trial in (0, 2):  # the other one was pruned
        part = tmp_path / "x" / "trials" / str(trial)
        write_run(part, replace(sweep, trial=trial), tmp_path / "x")
        for wave in (0, 1):
            write_run(part / "waves" / str(wave), replace(sweep, trial=trial, wave=wave), part)
    last = Place(part / "waves" / "1", (0,), first=11, first_setting=8)
    assert locate(tmp_path / "x", 11) == last
    assert locate(tmp_path / "x", setting=11) == last
    assert locate(part, setting=3) == Place(part / "waves" / "1", (0,), first=3)
    assert whole_of(part / "waves" / "1") == tmp_path / "x"
    for name, value, says in (
        ("member", 12, "must be from 0 to 11"),
        ("member", 5, "trials/1 has not begun"),
        ("setting", 12, "must be from 0 to 11"),
        ("setting", 5, "trials/1 has not begun"),
    ):
        with pytest.raises(ConfigError, match=f"{name} = {value}: .*{says}"):
            locate(tmp_path / "x", **{name: value})


def test_a_sweep_none_of_whose_parts_has_begun_is_refused(tmp_path):
    write_run(tmp_path / "new", SWEEP)
    with pytest.raises(ConfigError, match="none of its waves has begun yet"):
        locate(tmp_path / "new")


def test_a_setting_means_the_best_of_its_seeds(tmp_path):
    write_run(tmp_path / "x", SEEDS)
    place = locate(tmp_path / "x", setting=2)
    assert place.numbers == (6, 7, 8)
    returns = [99.0] * 6 + [1.0, 3.0, None] + [99.0] * 3
    number = choose_member(place, tmp_path, manifest(*returns), 12)
    found = describe(place, number, SEEDS, {"gamma": 0.95}, CARTPOLE.algorithm)
    assert found == Member(7, 2, 1, 3, {"gamma": 0.95}, {})
    assert str(found) == "member 7, of setting 2, seed 1 of 0 to 2: gamma 0.95"
    assert found.figures["member"] == 7
    for evaluation in (None, {"member_returns": [None] * 12}):
        with pytest.raises(ConfigError, match="name one of its members, 6 to 8"):
            choose_member(place, tmp_path, {"evaluation": evaluation}, 12)
    for which, says in (({"setting": 4}, "from 0 to 3"), ({"setting": 1, "member": 3}, "None")):
        with pytest.raises(ConfigError, match=f"^setting = .*{says}"):
            locate(tmp_path / "x", **which)


def test_a_setting_whose_seeds_are_in_two_waves(tmp_path):
    sweep = replace(SEEDS, wave_size=4)
    write_run(tmp_path / "x", sweep)
    for wave in range(3):
        write_run(tmp_path / "x" / "waves" / str(wave), sweep.waves[wave], tmp_path / "x")
    with pytest.raises(ConfigError, match=r"setting = 1: .* name one of its members, 3 to 5"):
        locate(tmp_path / "x", setting=1)
    write_returns(tmp_path / "x", *[9.0] * 3, 1.0, 2.0, 3.0, *[9.0] * 6)
    place = locate(tmp_path / "x", setting=1)
    assert place == Place(tmp_path / "x" / "waves" / "1", (1,), first=4)
    found = describe(place, 1, sweep.waves[1], {}, CARTPOLE.algorithm)
    assert (found.number, found.setting, found.seed) == (5, 1, 2)
    # A wave by itself numbers its members, and knows settings by the numbers that all know.
    assert locate(tmp_path / "x" / "waves" / "1", setting=1).numbers == (0, 1)
    assert locate(tmp_path / "x" / "waves" / "1", setting=2).numbers == (2, 3)
    with pytest.raises(ConfigError, match="setting = 0: must be from 1 to 2"):
        locate(tmp_path / "x" / "waves" / "1", setting=0)


def test_a_choice_of_shapes_is_said(tmp_path):
    sweep = replace(SEEDS, shapes={"num_steps": "8,16"}, trials=2, trial=1)
    place = Place(tmp_path, None, first=12, first_setting=4)
    found = describe(place, 11, sweep, {"gamma": 0.912345}, CARTPOLE.algorithm)
    assert str(found) == "member 23, of setting 7, seed 2 of 0 to 2: num_steps 8, gamma 0.9123"


@pytest.mark.parametrize("which", [{"member": 0}, {"setting": 0}])
def test_a_run_of_one_agent_has_neither(tmp_path, which):
    write_run(tmp_path / "x", None)
    with pytest.raises(ConfigError, match=r"= 0: .*x has one agent, not members"):
        locate(tmp_path / "x", **which)
    assert locate(tmp_path / "x") == Place(tmp_path / "x")
