"""What the caller and the process have to say in a run: a hook, quiet, signals, a broken output."""

import contextlib
import dataclasses
import errno
import io
import os
import signal
import subprocess
import sys
import time

import jax
import pytest
from rich.console import Console

import jaxdrl
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.errors import ConfigError
from jaxdrl.runs import report
from jaxdrl.runs.checkpoint import updates_in
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import RunInterruptedError, Signals
from jaxdrl.sweeps import ranking, results
from small_runs import CARTPOLE, lines_of, read, resumed, run_quietly, stopped_after

EXPERIMENT = dataclasses.replace(CARTPOLE, total_env_steps=5 * 128, evaluate_every=4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`(run to its end, what its hook was called with, what it printed)`."""
    seen = []
    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path_factory.mktemp("runs") / "whole")
    run, printed = run_quietly(
        experiment, quiet=True, on_update=lambda *arguments: seen.append(arguments)
    )
    return run, seen, printed


def test_a_quiet_run_prints_nothing(whole):
    assert whole[2] == ""


def test_the_hook_gets_plain_numbers_those_of_the_file(whole):
    run, seen, _ = whole
    assert [update for update, _ in seen] == [1, 2, 3, 4, 5]
    for (update, metrics), line in zip(seen, lines_of(run.run_dir), strict=True):
        assert {type(value) for value in metrics.values()} <= {int, float, type(None)}
        line = {k: v for k, v in line.items() if not k.startswith("evaluation_")}
        del line["steps_per_second"], line["memory_bytes"]
        assert {"update": update, **metrics} == line
    assert not run.result["stopped_early"]


class Broken(io.StringIO):
    """An output whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError


def test_a_true_value_ends_a_run_early_with_all_that_a_run_leaves(whole, tmp_path, monkeypatch):
    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path)
    seen = []

    def on_update(update, metrics):
        seen.append(update)
        return metrics["env_steps"] >= 2 * 128

    with contextlib.redirect_stdout(Broken()):
        run = jaxdrl.run(experiment, on_update=on_update)
    assert seen == [1, 2, 3]  # the third was being computed
    assert run.result == read(tmp_path, "result.json")
    assert (run.result["updates"], run.result["env_steps"]) == (3, 3 * 128)
    assert run.result["stopped_early"]
    assert updates_in(tmp_path / "checkpoints") == [3]
    assert lines_of(tmp_path)[-1]["evaluation_mean_return"] == run.evaluation.mean_return

    summarise = report.summarise

    def late_signal(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return summarise(*arguments)

    monkeypatch.setattr(report, "summarise", late_signal)
    ended, _ = resumed(tmp_path)  # a signal while the last files are written changes nothing
    for name in ("state_sha256", "evaluation", "updates", "stopped_early"):
        assert ended.result[name] == whole[0].result[name]


def test_what_the_hook_raises_comes_through_once_the_state_is_saved(whole, tmp_path):
    def on_update(update, metrics):
        if update == 2:
            raise LookupError("mine")

    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path)
    with pytest.raises(LookupError, match=r"^mine$"):
        run_quietly(experiment, on_update=on_update)
    assert updates_in(tmp_path / "checkpoints") == [3]
    assert not (tmp_path / "result.json").exists()
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, "ascii")
    with contextlib.redirect_stdout(output):
        ended = jaxdrl.resume(tmp_path)
    assert ended.result["state_sha256"] == whole[0].result["state_sha256"]
    assert b"resuming from update 3" in raw.getvalue()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_during_compilation_ends_a_run_that_begins_again(name, tmp_path):
    number, sent = getattr(signal, name), []
    before = signal.getsignal(number)

    def while_compiling(event, seconds, fun_name="", **_):
        if "train_step" in fun_name and not sent:
            sent.append(event)
            os.kill(os.getpid(), number)

    jax.monitoring.register_event_duration_secs_listener(while_compiling)
    try:
        with pytest.raises(RunInterruptedError) as caught:
            run_quietly(dataclasses.replace(EXPERIMENT, run_dir=tmp_path))
    finally:
        jax.monitoring.unregister_event_duration_listener(while_compiling)
    assert caught.value.exit_code == 128 + number
    assert str(caught.value) == (
        f"{name}: stopped before training could start or continue. "
        f"Resume with: jaxdrl resume {tmp_path}"
    )
    assert signal.getsignal(number) == before


def test_a_lost_terminal_stops_a_run_with_its_state_saved(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path)
    words = stopped_after(2, experiment, name="SIGHUP")
    assert words.startswith("SIGHUP: stopped after update 2 of 5. The checkpoint of update 2 is ")


def test_ctrl_c_twice_stops_at_once(tmp_path):
    def on_update(update, metrics):
        if update == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(RunInterruptedError, match=r"^SIGINT, and Ctrl-C after it: ") as caught:
        run_quietly(dataclasses.replace(EXPERIMENT, run_dir=tmp_path), on_update=on_update)
    assert caught.value.exit_code == 128 + signal.SIGINT
    assert updates_in(tmp_path / "checkpoints") == []


class Disk:
    """No file is made while it is full."""

    is_full = False

    def open(self, path, flags, *args, make=os.open, **kwargs):
        if self.is_full and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return make(path, flags, *args, **kwargs)

    def sync(self, descriptor, sync=os.fsync):
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(os, "open", disk.open)
    monkeypatch.setattr(os, "fsync", disk.sync)
    return disk


def test_a_disk_that_fills_costs_files_and_no_training(whole, tmp_path, disk):
    def on_update(update, metrics):
        while update == 3 and not (tmp_path / "checkpoints" / "00000002").exists():
            time.sleep(0.01)
        disk.is_full = update >= 3

    experiment = dataclasses.replace(EXPERIMENT, run_dir=tmp_path, checkpoint_every=1)
    experiment = dataclasses.replace(experiment, evaluate_every=2)
    run, printed = run_quietly(experiment, on_update=on_update)
    assert run.result["state_sha256"] == whole[0].result["state_sha256"]
    assert not run.is_written
    assert printed.count("warning: ") == printed.count("No space left on device") + 2
    for words in (
        f"{tmp_path}/metrics.jsonl could not be written (No space left on device); its lines wait",
        "was not written (No space left on device); training continues, and that of update ",
        "checkpoints were not written; that of update ",
        "lines could not be written\n",
        f"{tmp_path}/result.json: could not be written (No space left on device); once it can, "
        f"this writes it: jaxdrl resume {tmp_path}\n",
        "greedy mean return",
    ):
        assert printed.count(words) == 1, words
    assert not [path for path in tmp_path.rglob("*") if ".writing" in path.name]
    disk.is_full = False
    again, _ = resumed(tmp_path)
    for name in ("state_sha256", "evaluation"):
        assert again.result[name] == whole[0].result[name]
    assert again.is_written
    assert [line["update"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_disk_that_is_full_at_the_start_is_refused(tmp_path, disk, no_compile):
    disk.is_full = True
    with pytest.raises(ConfigError) as caught:
        run_quietly(dataclasses.replace(EXPERIMENT, run_dir=tmp_path / "run"))
    assert str(caught.value).startswith(
        f"run_dir = {str(tmp_path / 'run')!r}: cannot be written (No"
    )


def test_files_of_a_sweep_that_cannot_be_written_do_not_cost_its_table(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "best.json")

    monkeypatch.setattr(ranking, "write", full)
    warnings, console = [], Console(file=io.StringIO())
    row = {"setting": 0, "hyperparams": {"gamma": 0.9}, "mean_return": 7.0, "members": [0]}
    row |= {"ci95_low": 6.0, "ci95_high": 8.0}
    session = Session(tmp_path, console, warnings.append, Signals(), Hosts())
    results.show_sweep(session, dataclasses.replace(EXPERIMENT, run_dir=tmp_path), [row])
    assert "6 to 8" in console.file.getvalue()
    words = "not all files of the sweep could be written (best.json: No space left on device)"
    assert warnings == [words]


COMMAND = """train CartPole-v1 --env-params max_steps_in_episode 12 --total-env-steps 640
--devices 2 --evaluate-every 4 --num-eval-episodes 8 --anneal-learning-rate --num-envs 16
--num-steps 8 --num-epochs 1 --num-minibatches 2 --hidden-sizes 8"""
OUTPUTS = {
    "no reader, no letters": "2>/dev/full | head -1",
    "full": ">/dev/full 2>&1",
    "closed": ">&- 2>&- <&-",
}


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(name, marks=[pytest.mark.slow] if i else [], id=name)
        for i, name in enumerate(OUTPUTS)
    ],
)
def test_a_command_trains_to_its_end_whatever_its_output(output, tmp_path):
    run_dir = tmp_path / "ünï[/x]"
    program = "from jaxdrl.cli.main import main; main()"
    command = [sys.executable, "-c", program, *COMMAND.split(), "--run-dir", str(run_dir)]
    script = f'"$@" {OUTPUTS[output]}; exit ${{PIPESTATUS[0]}}'
    environ = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        ["bash", "-c", script, "bash", *command], env=environ, capture_output=True, text=True
    )
    assert process.returncode == 0
    assert process.stderr == ""
    assert read(run_dir, "result.json")["updates"] == 5
    assert updates_in(run_dir / "checkpoints") == [4, 5]
    assert len(lines_of(run_dir)) == 5
