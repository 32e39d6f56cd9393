"""Which directory of a sweep in parts holds what."""

import json
import shutil
from dataclasses import replace

import pytest

import jaxdrl
from jaxdrl.analysis import learning_curves, watch
from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs.nested import (
    best_part,
    doubt_about_parts,
    has_begun,
    parts_of,
    read_result,
    require_part,
    whole_of,
)
from jaxdrl.runs.run_dir import read_run
from jaxdrl.runs.sweep_members import locate
from small_runs import CARTPOLE, config_of

SWEEP = Sweep({"gamma": "0.9:0.99"}, members=24, wave_size=2)


def write_run(run_dir, sweep, part_of=None):
    """A run whose id is its path."""
    run_dir.mkdir(parents=True)
    part_of = None if part_of is None else str(part_of)
    content = config_of(replace(CARTPOLE, sweep=sweep), str(run_dir), part_of)
    write_sealed(run_dir / "config.json", content)


def write_evaluation(run_dir, mean_return, best_member):
    evaluation = {"mean_return": mean_return, "best_member": best_member, "member_ci95": []}
    write_sealed(run_dir / "result.json", {"evaluation": evaluation, "run_id": str(run_dir)})


@pytest.fixture
def run_dir(tmp_path):
    """Twelve waves, of which eleven have begun."""
    write_run(tmp_path / "x", SWEEP)
    for wave in range(11):
        write_run(tmp_path / "x" / "waves" / str(wave), SWEEP.waves[wave], tmp_path / "x")
    return tmp_path / "x"


def test_parts_are_in_their_order(run_dir, tmp_path):
    assert [int(part.name) for part in parts_of(run_dir)] == list(range(11))
    assert parts_of(run_dir / "waves" / "3") == []
    assert whole_of(run_dir / "waves" / "3") == run_dir
    assert whole_of(run_dir) == run_dir
    assert whole_of(tmp_path / "y" / "waves" / "0") == tmp_path / "y" / "waves" / "0"


def test_a_damaged_result_is_said(run_dir):
    part = run_dir / "waves" / "0"
    for content in ("{", json.dumps({"evaluation": {}}), "[]"):
        (part / "result.json").write_text(content)
        with pytest.raises(ConfigError, match=r"result\.json: .*jaxdrl resume .*/x` writes"):
            read_result(part)


def test_a_result_that_was_changed_or_is_of_another_run_is_refused(run_dir):
    part, other = run_dir / "waves" / "0", run_dir / "waves" / "1"
    for path in (part, other):
        write_evaluation(path, 3.0, 1)
    assert read_result(part)["evaluation"]["mean_return"] == 3.0
    text = (part / "result.json").read_text()
    (part / "result.json").write_text(text.replace("3.0", "8.0"))
    with pytest.raises(ConfigError, match="was changed after it was written"):
        read_result(part)
    (part / "result.json").write_text((other / "result.json").read_text())
    with pytest.raises(ConfigError, match=r"is the result of another run; remove it, and .*/x`"):
        read_result(part)


def test_a_part_of_another_sweep_or_under_another_number_is_refused(run_dir, tmp_path):
    waves = run_dir / "waves"
    (waves / "10").rename(waves / "11")
    with pytest.raises(ConfigError, match=r"waves/11'.* is wave 10 of its sweep, under another"):
        parts_of(run_dir)
    (waves / "11").rename(waves / "10")
    assert len(parts_of(run_dir)) == 11
    shutil.rmtree(waves / "3")
    write_run(waves / "3", SWEEP.waves[3], tmp_path / "y")
    for refuse in (parts_of, lambda run: locate(run, 0)):
        with pytest.raises(ConfigError, match=r"waves/3'.* is not a part of the sweep above it"):
            refuse(run_dir)
    with pytest.raises(ConfigError, match=r"waves/3'.* is not a part of the sweep above it"):
        require_part(waves / "3", read_run(waves / "3"))
    require_part(waves / "2", read_run(waves / "2"))
    require_part(run_dir, read_run(run_dir))


def looped(path):
    path.unlink()
    path.symlink_to(path)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "loop": looped,
    "cut": lambda path: path.write_text(path.read_text()[:100]),
    "part is a file": lambda path: (shutil.rmtree(path.parent), path.parent.write_text("")),
    "part is a loop": lambda path: (shutil.rmtree(path.parent), path.parent.symlink_to("3")),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "verb", [parts_of, locate, learning_curves.plot_runs, watch.take, jaxdrl.resume, jaxdrl.restore]
)
def test_a_part_that_has_begun_and_cannot_be_read_is_named_by_every_verb(run_dir, verb, damage):
    (run_dir / "waves" / "3" / "metrics.jsonl").write_text("")
    DAMAGES[damage](run_dir / "waves" / "3" / "config.json")
    what = "not a directory|a link to nothing"
    with pytest.raises(
        ConfigError, match=rf"waves/3(/config\.json: |': is not a run \(it is ({what})\))"
    ):
        verb([run_dir] if verb is learning_curves.plot_runs else run_dir)


@pytest.mark.parametrize("left", ["metrics.jsonl", "lineage.jsonl", "result.json", "checkpoints"])
def test_whatever_a_part_has_left_shows_that_it_has_begun(run_dir, left):
    part = run_dir / "waves" / "11"
    part.mkdir()
    (part / ".lock").write_text("7")
    assert len(parts_of(run_dir)) == 11
    assert not has_begun(part)
    (part / left).symlink_to("nothing")
    with pytest.raises(ConfigError, match=r"waves/11/config\.json: is missing, although its part"):
        parts_of(run_dir)


def test_waves_that_are_gone_are_counted(run_dir):
    assert doubt_about_parts(run_dir) is None
    for wave in (0, 4):
        shutil.rmtree(run_dir / "waves" / str(wave))
    assert doubt_about_parts(run_dir) == (
        f"{run_dir}/waves: 0, 4 of 0 to 10 are missing; put back what was there, or "
        f"`jaxdrl resume {run_dir}` trains them again"
    )


def test_a_result_that_is_a_loop_is_not_passed_over(run_dir):
    write_evaluation(run_dir / "waves" / "1", 3.0, 1)
    assert best_part(parts_of(run_dir)).name == "1"
    (run_dir / "waves" / "2" / "result.json").symlink_to("result.json")
    with pytest.raises(ConfigError, match=r"waves/2/result\.json: cannot be read"):
        best_part(parts_of(run_dir))
    (run_dir / "result.json").symlink_to("result.json")
    with pytest.raises(ConfigError, match=r"/x/result\.json: cannot be read"):
        locate(run_dir)


def test_nothing_is_trained_from_a_sweep(run_dir, tmp_path):
    next_run = replace(CARTPOLE, run_dir=tmp_path / "next")
    for of in (run_dir, run_dir / "waves" / "3"):
        with pytest.raises(ConfigError) as caught:
            jaxdrl.run(replace(next_run, from_run=of), quiet=True)
        assert str(caught.value) == (
            f"from = {str(of)!r}: is a sweep, each member of which has parameters of its own; name "
            "a run of one agent, such as that of "
            f"`jaxdrl train --config {run_dir}/best.json`"
        )
    assert not (tmp_path / "next").exists()


def test_a_trial_that_has_begun_and_cannot_be_read_is_named_and_a_gap_is_none(tmp_path):
    """A trial that was pruned may have left nothing, so that the next one is no sign of it."""
    sweep = replace(SWEEP, members=4, shapes={"num_steps": "8,16,32"}, trials=3)
    write_run(tmp_path / "x", sweep)
    for trial in (0, 2):
        part = tmp_path / "x" / "trials" / str(trial)
        write_run(part, replace(sweep, trial=trial), tmp_path / "x")
        for wave in range(2):
            own = replace(sweep, trial=trial, wave=wave)
            write_run(part / "waves" / str(wave), own, part)
    assert [part.name for part in parts_of(tmp_path / "x")] == ["0", "2"]
    assert doubt_about_parts(tmp_path / "x") is None
    (part / "config.json").unlink()
    for verb in (parts_of, learning_curves.runs_of, watch.take, locate, jaxdrl.resume):
        with pytest.raises(ConfigError, match=r"trials/2/config\.json: is missing, although its"):
            verb(tmp_path / "x")
