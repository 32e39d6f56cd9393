"""Processes that are killed or stopped, in the short form of `experiments/faults.py`."""

import json
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from deadlines import within
from jaxdrl.cli import main

SCRIPT = Path(__file__).parents[2] / "experiments" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where `check` leaves its runs, and the programs that later runs find."""
    return tmp_path_factory.mktemp("faults")


def test_a_run_killed_inside_a_save_ends_like_an_undisturbed_one(faults, directory):
    (run,) = faults.check(faults.Faults(num_runs=1, updates=30), directory)
    assert (run.kind, run.trouble) == ("plain", "")


@pytest.mark.slow
def test_runs_of_each_kind_end_like_undisturbed_ones(faults, tmp_path, directory):
    runs = faults.check(faults.Faults(num_runs=10, seed=1), tmp_path)
    assert [(run.kind, run.trouble) for run in runs if run.trouble] == []
    assert {run.kind for run in runs} == set(faults.KINDS)


def written(run_dir, **files):
    """A finished run with what differs in `files` from a sound one."""
    result = {"state_sha256": "ab", "settings": [1], "run_id": run_dir.name, "train_seconds": 3.0}
    sound = {
        "result": [result | {"steps_per_second": len(run_dir.name)}],
        "metrics": [{"update": 1, "env_steps": 8, "steps_per_second": len(run_dir.name)}],
        "lineage": [{"update": 1, "parent": [0, 0]}],
        "best": [{"experiment": {"seed": 1}}],
    }
    for name, lines in (sound | files).items():
        path = run_dir / (f"{name}.jsonl" if name in ("metrics", "lineage") else f"{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run_dir


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("result.json", [{"state_sha256": "ac", "settings": [1]}]),
        ("result.json", [{"state_sha256": "ab", "settings": [2]}]),
        ("metrics.jsonl", [{"update": 1, "env_steps": 8}] * 2),
        ("lineage.jsonl", [{"update": 1, "parent": [0, 1]}]),
        ("best.json", [{"experiment": {"seed": 2}}]),
    ],
)
def test_what_differs_is_named(faults, tmp_path, file, lines):
    expected = faults.outcome(written(tmp_path / "straight"))
    same, other = written(tmp_path / "a"), written(tmp_path / "b", **{file.split(".")[0]: lines})
    assert faults.difference(same, expected) == ""
    assert faults.difference(other, expected) == file


def test_points_that_tensorboard_holds_twice_or_otherwise_are_found(faults, tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    lines = [{"env_steps": 8 * update, "entropy": update / 10} for update in (1, 2, 3)]
    run_dir = written(tmp_path, metrics=lines)
    writer = EventFileWriter(str(run_dir / "tensorboard"))
    for step, value in [(8, 0.1), (16, 0.2), (16, 0.2), (24, 0.4)]:
        summary = Summary(value=[Summary.Value(tag="losses/entropy", simple_value=value)])
        writer.add_event(Event(wall_time=1.0, step=step, summary=summary))
    writer.close()
    strange = faults.outcome(run_dir)["tensorboard"]
    assert [(tag, step) for tag, step, _ in strange] == [
        ("losses/entropy", 16),
        ("losses/entropy", 24),
    ]


def test_sigterm_saves_the_last_update_and_ends_within_ten_seconds(faults, directory, capsys):
    run_dir = directory / "endless"
    endless = faults.flags(faults.Faults(updates=10_000_000), "plain", run_dir)
    process = faults.start(endless, directory / "cache")
    faults.wait(process, (run_dir / "checkpoints" / "00000001").exists, 100)
    with pytest.raises(SystemExit) as refused:
        within(60, lambda: main.main(["resume", str(run_dir)]))
    process.terminate()
    assert refused.value.code == 2
    assert f"process {process.pid} on " in capsys.readouterr().err
    started = time.monotonic()
    output = process.communicate()[0].decode()
    assert time.monotonic() - started < 10
    assert process.returncode == 0
    assert f"is saved; resume with: jaxdrl resume {run_dir}\n" in output
    assert not (run_dir / "result.json").exists()
