"""Sweeps in parts: trained, killed, resumed, looked at."""

import contextlib
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import chex
import jax
import pytest

import jaxdrl
from jaxdrl.analysis.watch import render, take
from jaxdrl.cli import main
from jaxdrl.core.trees import raw
from jaxdrl.errors import ConfigError
from jaxdrl.io.numerals import short
from jaxdrl.runs import memory, report, train_run
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.run_dir import read_metrics
from jaxdrl.runs.stopping import RunInterruptedError
from small_sweeps import WAVES, content, quietly, without_times


@pytest.fixture(scope="module", autouse=True)
def cached(compile_cache):
    """Parts of equal shapes are compiled once."""


SEEN = []
"""What the hook of the waves was called with."""


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "waves"

    def on_update(*arguments):
        SEEN.append(arguments)

    experiment = dataclasses.replace(WAVES, run_dir=run_dir)
    return quietly(jaxdrl.run, experiment, quiet=True, on_update=on_update)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The same members in one program."""
    run_dir = tmp_path_factory.mktemp("runs") / "together"
    sweep = dataclasses.replace(WAVES.sweep, wave_size=None)
    return quietly(jaxdrl.run, dataclasses.replace(WAVES, run_dir=run_dir, sweep=sweep))


def assert_same(ours, theirs):
    """Every array of the two states has the same bits."""
    chex.assert_trees_all_equal(ours, theirs, strict=True)


def test_a_member_of_a_wave_is_what_it_is_among_all(waves, together):
    """To rounding; the bits are compared in `test_wave_bits.py`."""
    for number in range(3):
        ours, theirs = (
            jax.tree.map(raw, jaxdrl.restore(sweep.run_dir, member=number).state)
            for sweep in (waves, together)
        )
        chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-6)
    for name in ("settings", "evaluation", "env_steps", "updates"):
        assert waves.result[name] == together.result[name], name


def test_what_is_written_is_of_all_members(waves, together):
    names = ("best.json", "response.png", "parallel.png", "result.json", "config.json")
    assert {path.name for path in waves.run_dir.iterdir()} == {*names, "waves", ".lock"}
    assert content(waves.run_dir / "best.json") == content(together.run_dir / "best.json")
    parts = [waves.run_dir / "waves" / str(wave) for wave in (0, 1)]
    lengths = [len(read_metrics(part)[0]["members/entropy"]) for part in parts]
    assert lengths == [2, 1]
    assert not (parts[0] / "best.json").exists()


def test_the_best_member_is_given_back(waves):
    best = waves.result["evaluation"]
    assert waves.evaluation.mean_return == best["mean_return"]
    assert len(waves.evaluation.returns) == WAVES.num_eval_episodes
    _, _, state = jaxdrl.restore(waves.run_dir)
    assert_same(state, waves.state)
    assert_same(state, jaxdrl.restore(waves.run_dir, member=best["best_member"]).state)


def test_members_that_there_are_not_are_refused(waves):
    with pytest.raises(ConfigError, match="member = 3: must be from 0 to 2"):
        jaxdrl.restore(waves.run_dir, member=3)


def test_every_verb_takes_it(waves, tmp_path):
    found = io.StringIO()
    with contextlib.redirect_stdout(found):
        main.main(f"evaluate {waves.run_dir} --setting 2 --num-episodes 4".split())
        main.main(f"plot {waves.run_dir} --out {tmp_path / 'curve.png'}".split())
        main.main(f"watch {waves.run_dir} --once".split())
        main.main(f"export {waves.run_dir} --member 1 --out {tmp_path / 'policy.zip'}".split())
        film = tmp_path / "film.gif"
        main.main(f"render {waves.run_dir} --num-steps 3 --out {film}".split())
    printed = found.getvalue()
    assert "after update 4 (512 steps): 4 whole episodes" in printed
    rates = [row["hyperparams"]["learning_rate"] for row in waves.result["settings"]]
    places = [row["setting"] for row in waves.result["settings"]]
    best = waves.result["evaluation"]["best_member"]
    for number in (2, 1, best):
        rate = rates[places.index(number)]
        assert f"member {number}, of setting {number}: learning_rate {short(rate)}\n" in printed
    assert "(2 runs)" in found.getvalue()  # the waves are of one group
    assert "finished, waves/1: 512 of 512 steps" in found.getvalue()
    assert film.exists() and (tmp_path / "policy.zip").exists()


class Killed(BaseException):
    """Stands in for SIGKILL: no `except` of the library sees it."""


@contextlib.contextmanager
def killed_in(part, update):
    """The process ends before a checkpoint of a part, of that update or a later one, is written."""
    original = Saver.save

    def save(self, at, *args):
        if self.directory.parent.name == str(part) and at >= update:
            raise Killed
        original(self, at, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Saver, "save", save)
        yield


SLOW = pytest.mark.slow  # each trains up to three parts


@pytest.mark.parametrize(
    ("part", "update"),
    [
        (1, 2),
        *(pytest.param(part, at, marks=SLOW) for part, at in [(0, 1), (0, 3), (1, 1), (1, 4)]),
    ],
)
def test_killed_in_any_wave_and_resumed_it_ends_the_same(waves, tmp_path, part, update):
    run_dir = tmp_path / "sweep"
    with killed_in(part, update):
        quietly(jaxdrl.run, dataclasses.replace(WAVES, run_dir=run_dir))
    assert take(run_dir).state == "stopped"
    assert take(run_dir).part == f"waves/{part}"
    assert "stopped, waves/" in str(render(take(run_dir)).renderables[0])
    resumed = quietly(jaxdrl.resume, run_dir)
    assert without_times(resumed.result) == without_times(waves.result)
    for name in ("best.json", "waves/0/result.json"):
        ours, theirs = (content(path / name) for path in (run_dir, waves.run_dir))
        assert without_times(ours) == without_times(theirs)


@pytest.mark.usefixtures("waves")
def test_the_hook_sees_every_update_of_every_wave():
    assert [update for update, _ in SEEN] == [1, 2, 3, 4] * 2
    lengths = [len(metrics["members/entropy"]) for _, metrics in SEEN]
    assert lengths == [2] * 4 + [1] * 4
    assert all(type(metrics["entropy"]) is float for _, metrics in SEEN)


@pytest.mark.slow
def test_a_signal_at_the_end_of_a_wave_stops_the_sweep_before_the_next(tmp_path, monkeypatch):
    summarise = report.summarise

    def late_signal(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return summarise(*arguments)

    monkeypatch.setattr(report, "summarise", late_signal)
    with pytest.raises(RunInterruptedError) as caught:
        quietly(jaxdrl.run, dataclasses.replace(WAVES, run_dir=tmp_path))
    assert str(caught.value).endswith(f"Resume with: jaxdrl resume {tmp_path}")
    assert (tmp_path / "waves" / "0" / "result.json").exists()
    assert not (tmp_path / "waves" / "1").exists()


def test_a_part_is_not_trained_twice(waves, tmp_path, monkeypatch):
    shutil.copytree(waves.run_dir, tmp_path / "sweep")
    (tmp_path / "sweep" / "result.json").unlink()
    monkeypatch.setattr(train_run, "compile_step", lambda *_: pytest.fail("compiled"))
    resumed = quietly(jaxdrl.resume, tmp_path / "sweep")
    assert resumed.result == waves.result


def test_what_a_finished_sweep_cannot_do_is_refused(waves):
    with pytest.raises(ConfigError, match="total_env_steps = 512 has been reached"):
        quietly(jaxdrl.resume, waves.run_dir)
    with pytest.raises(ConfigError, match=r"checkpoint = 1: is of one part; .*waves/0"):
        quietly(jaxdrl.resume, waves.run_dir, checkpoint=1)
    assert (waves.run_dir / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "steps"), [(False, 512.0), (True, 256.0)])
def test_every_wave_of_a_longer_sweep_has_the_schedule_of_the_sweep(tmp_path, keep, steps):
    """Also one that had not begun, and in a sweep that is killed in between."""
    fields = {"run_dir": tmp_path / "sweep", "total_env_steps": 256, "anneal_learning_rate": True}
    short = dataclasses.replace(WAVES, **fields)
    with killed_in(1, 1):
        quietly(jaxdrl.run, short)
    with killed_in(0, 4):
        quietly(jaxdrl.resume, short.run_dir, total_env_steps=512, keep_schedule=keep)
    quietly(jaxdrl.resume, short.run_dir)
    for path in (short.run_dir, *(short.run_dir / "waves").iterdir()):
        experiment = content(path / "config.json")["experiment"]
        assert (experiment["total_env_steps"], experiment["ppo"]["anneal_env_steps"]) == (
            512,
            steps,
        )


@pytest.mark.slow
def test_a_sweep_in_waves_goes_further(waves, tmp_path):
    short = dataclasses.replace(WAVES, run_dir=tmp_path / "sweep", total_env_steps=2 * 128)
    quietly(jaxdrl.run, short)
    longer = quietly(jaxdrl.resume, short.run_dir, total_env_steps=4 * 128)
    for name in ("state_sha256", "settings", "evaluation"):
        assert longer.result[name] == waves.result[name]


def test_a_wave_that_a_signal_stopped_names_the_sweep(waves):
    setup = SimpleNamespace(run_dir=waves.run_dir / "waves" / "1", overrides=Overrides())
    for last, says in (
        (3, "The checkpoint of update 3 is saved; resume with"),
        (None, "Resume with"),
    ):
        words = report.resume_words(SimpleNamespace(last_update=last), setup)
        assert words == f"{says}: jaxdrl resume {waves.run_dir}"


# Memory, and real kills


def test_members_that_do_not_fit_are_trained_in_waves(tmp_path, monkeypatch):
    sweep = dataclasses.replace(WAVES.sweep, wave_size=None)
    experiment = dataclasses.replace(WAVES, run_dir=tmp_path / "sweep", sweep=sweep)
    given = memory.MemoryEstimate(fixed=300, actor=300, rollout=300, working=600, is_counted=False)
    monkeypatch.setattr(memory, "estimate", lambda *_: given)
    monkeypatch.setattr(memory, "available", lambda mesh: 900)
    trained = []
    monkeypatch.setattr("jaxdrl.sweeps.driver.train", lambda setup, *_: trained.append(setup))
    quietly(jaxdrl.run, experiment)
    assert trained[0].experiment.sweep.wave_size == 2
    pbt = dataclasses.replace(experiment, sweep=dataclasses.replace(sweep, pbt=True))
    monkeypatch.setattr(memory, "available", lambda mesh: 800)
    with pytest.raises(ConfigError, match=r"^sweep.members = 3: needs at least .*fits: 2$"):
        quietly(jaxdrl.run, dataclasses.replace(pbt, run_dir=tmp_path / "pbt"))
    assert not (tmp_path / "pbt").exists()


COMMAND = [sys.executable, "-c", "from jaxdrl.cli.main import main; main()"]
USERS = """sweep CartPole-v1 --learning-rate log:1e-4:1e-2 --members 4 --devices 2
    --total-env-steps 102400 --checkpoint-every 1 --num-eval-episodes 16 --num-envs 16
    --num-steps 16 --num-epochs 1 --hidden-sizes 8"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("", "."),
        ("--pbt --pbt-every 3 --pbt-fraction 0.25", "."),
        ("--wave-size 3", "waves/1"),
        ("--shape num_steps=16,32 --shape num_epochs=1,2 --trials 3 --wave-size 2", "trials/1"),
    ],
)
def test_a_sweep_killed_as_a_process_ends_like_one_that_was_not(tmp_path, flags, part):
    words = [*USERS.split(), *flags.split()]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*COMMAND, *words, "--run-dir", str(whole)], check=True, timeout=600)
    process = subprocess.Popen([*COMMAND, *words, "--run-dir", str(killed)])
    while not list(killed.glob(f"{part}/**/checkpoints/[0-9]*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not (killed / part / "result.json").exists()
    subprocess.run([*COMMAND, "resume", str(killed)], check=True, timeout=600)
    ours, theirs = (content(run / "result.json") for run in (killed, whole))
    assert without_times(ours) == without_times(theirs)
    assert content(killed / "best.json") == content(whole / "best.json")
