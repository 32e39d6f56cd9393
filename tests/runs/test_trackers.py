"""Trackers: what TensorBoard, Weights & Biases and MLflow hold, and that none can harm a run."""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import jaxdrl
from jaxdrl.errors import ConfigError
from jaxdrl.runs import tracker_process, trackers
from jaxdrl.runs.stopping import RunInterruptedError
from jaxdrl.runs.tracker_process import TAGS, hyperparameters, tag, tagged
from jaxdrl.runs.trackers import Tracking
from small_runs import CARTPOLE

ROOT = Path(__file__).parents[2]
# MLflow reads its store by what SQLAlchemy is about to leave out.
pytestmark = [
    pytest.mark.usefixtures("compile_cache"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]

NAMES = ("tensorboard", "wandb", "mlflow")
EXPERIMENT = dataclasses.replace(
    CARTPOLE, checkpoint_every=1, keep_checkpoints=9, anneal_learning_rate=False
)
"""Its runs of any length are the same program."""
LINES = [{"update": n, "env_steps": 128 * n, "policy_loss": n / 8} for n in range(1, 6)]


@pytest.fixture(scope="module", autouse=True)
def offline():
    """Nothing leaves this machine, whatever a library would like to send."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("WANDB_", "MLFLOW_")):
                patch.delenv(name)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            patch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
        yield


@pytest.fixture
def run_dir(tmp_path):
    """A directory with a config, as trackers find it."""
    (tmp_path / "config.json").write_text(
        '{"experiment": {"env": "walk", "algorithm": {"kind": "ppo", "gamma": 0.9}}}'
    )
    return tmp_path


def recorder(lines, **extra):
    """A tracker that keeps what it gets."""

    @contextlib.contextmanager
    def keep(run_dir, config):
        lines.append((run_dir, config))
        yield lines.append
        lines.append("closed")

    return keep


def broken(stage, error):
    """A tracker that fails at a stage: `call`, `open`, `log` or `close`."""

    def fail(now):
        if now == stage:
            raise error

    @contextlib.contextmanager
    def manage():
        fail("open")
        yield lambda record: fail("log")
        fail("close")

    def defective(run_dir, config):
        fail("call")
        return manage()

    return defective


def hanging(event):
    @contextlib.contextmanager
    def hung(run_dir, config):
        event.wait()
        yield lambda record: None

    return hung


def track(names, own, run_dir, lines=LINES):
    """What is warned of while trackers get `lines`."""
    warnings = []
    with Tracking(names, own, run_dir, warnings.append) as trackers:
        for line in lines:
            trackers.log(line)
    return warnings


def lines_of(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


# A thread for each


def test_every_tracker_gets_the_config_and_all_lines(run_dir):
    @contextlib.contextmanager
    def careless(run_dir, config):
        config.clear()
        yield dict.clear

    first, second = [], []
    own = [recorder(first), careless, functools.partial(recorder(second))]
    assert track((), own, run_dir, [dict(line) for line in LINES]) == []
    opened = (run_dir, json.loads((run_dir / "config.json").read_text()))
    assert first == second == [opened, *LINES, "closed"]


@pytest.mark.parametrize("stage", ["call", "open", "log", "close"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no [/such] thing"),
        OSError(errno.ENOSPC, "No space left on device"),
        SystemExit(3),
    ],
)
def test_a_tracker_that_fails_is_reported_once_and_left_alone(run_dir, stage, error):
    lines, warnings = [], []
    with Tracking((), [broken(stage, error), recorder(lines)], run_dir, warnings.append) as both:
        both.log(LINES[0])
        if stage != "close":
            both.workers[0].thread.join()
        for line in LINES[1:]:
            both.log(line)
        assert len(warnings) == (stage != "close")
    (warning,) = warnings
    assert warning == (
        f"tracker defective failed; the run continues without it ({type(error).__name__}: {error})"
    )
    assert lines[1:] == [*LINES, "closed"]


def test_what_is_no_tracker_is_reported(run_dir):
    (warning,) = track((), [lambda run_dir, config: print], run_dir)
    assert warning.startswith("tracker <lambda> failed; the run continues without it (")


def test_a_tracker_that_hangs_costs_lines_and_a_moment_at_the_end(run_dir, monkeypatch):
    monkeypatch.setattr(trackers, "QUEUE_SIZE", 2)
    monkeypatch.setattr(trackers, "SECONDS_TO_FINISH", 0.3)
    event, lines = threading.Event(), []
    started = time.perf_counter()
    warnings = track((), [hanging(event), recorder(lines), hanging(event)], run_dir)
    assert 0.25 < time.perf_counter() - started < 2.0  # together, not each
    event.set()
    behind = "tracker hung is 2 lines behind; it misses further lines"
    late = "tracker hung had not finished 0.3 s after the run, which does not wait for it"
    assert sorted(w for w in warnings if "keep" not in w) == [late, late, behind, behind]


def test_a_program_ends_while_a_tracker_hangs(run_dir):
    script = f"""
import contextlib, pathlib, sys, threading
from jaxdrl.runs import tracker_process
from jaxdrl.runs import trackers as tracking

@contextlib.contextmanager
def hung(run_dir, config):
    threading.Thread(target=threading.Event().wait).start()
    threading.Event().wait()
    yield print

tracking.SECONDS_TO_FINISH = 0.1
with tracking.Tracking((), [hung], pathlib.Path({str(run_dir)!r}), print) as trackers:
    trackers.log({{}})
assert not {{"jax", "wandb", "mlflow", "tensorboard"}} & set(sys.modules)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "had not finished 0.1 s after the run" in done.stdout


# Names


@pytest.mark.parametrize(
    ("name", "nearest"), [("tensorbord", "tensorboard"), ("WandB", "wandb"), ("ml-flow", "mlflow")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(CARTPOLE, track=("mlflow", name))
    assert str(caught.value) == (
        f"track = {name!r}: unknown tracker; the nearest: {nearest}; "
        "there are tensorboard, wandb, mlflow"
    )


def test_a_missing_package_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "wandb", ("nobodys_package",))
    monkeypatch.syspath_prepend(str(tmp_path))
    experiment = dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run", track=("wandb",))
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            jaxdrl.run(experiment)
        assert str(caught.value) == (
            "track = 'wandb': nobodys_package is not installed; pip install 'jaxdrl[wandb]'"
        )
        assert not (tmp_path / "run").exists()
        (tmp_path / "nobodys_package").mkdir(exist_ok=True)  # as wandb leaves one behind


def test_all_missing_packages_are_named_at_once(monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "wandb", ("nobodys_package",))
    monkeypatch.setitem(trackers.PACKAGES, "mlflow", ("no_such", "json", "nobodys_package"))
    monkeypatch.setitem(trackers.PACKAGES, "tensorboard", ("json",))
    with pytest.raises(ConfigError) as caught:
        trackers.require_installed(("wandb", "tensorboard", "mlflow"))
    assert str(caught.value) == (
        "track = 'wandb', 'mlflow': nobodys_package, no_such are not installed; "
        "pip install 'jaxdrl[wandb,mlflow]'"
    )


def test_metrics_have_the_names_of_the_page():
    page = (ROOT / "docs/results.md").read_text().split("## Trackers")[1]
    rows = re.findall(r"^\| (`[^|]*`) \| (`[^|]*`) \|$", page, re.MULTILINE)
    words = [(re.findall("`([^`]+)`", a), re.findall("`([^`]+)`", b)) for a, b in rows]
    table = {t: name for tags, names in words for t, name in zip(tags, names, strict=True)}
    known = {tag(name): name for name in [*TAGS, "policy_loss", "value_loss"]}
    assert table == known | {"eval/*": "evaluation_*"}


def test_tagged_leaves_out_what_is_no_number():
    record = {"env_steps": 8, "episode_return": None, "entropy": 0.5, "my_loss": 1, "mine": 2}
    record |= {"evaluation_mean_return": 3.0, "words": "no"}
    assert tagged(record) == {
        "losses/entropy": 0.5,
        "losses/my_loss": 1,
        "charts/mine": 2,
        "eval/mean_return": 3.0,
    }


def test_hyperparameters_are_flat():
    nested = {"network": {"hidden_sizes": [8]}, "execution": {"reproducible": True}}
    algorithm = {"kind": "ppo", "gamma": 0.9, "target_kl": None} | nested
    config = {"experiment": {"env": "walk", "algorithm": algorithm}, "env_params": {"g": 9.8}}
    assert hyperparameters(config) == {
        "env": "walk",
        "algorithm": "ppo",
        "gamma": 0.9,
        "hidden_sizes": "[8]",
        "target_kl": "None",
        "reproducible": True,
        "env_params.g": 9.8,
    }


# A process for each of the named


def test_a_process_that_fails_says_why(run_dir):
    (run_dir / "tensorboard").write_text("mine")
    (warning,) = track(["tensorboard"], (), run_dir)
    assert warning.startswith("tracker tensorboard failed; the run continues without it (")
    assert str(run_dir / "tensorboard") in warning


@pytest.fixture
def processes(monkeypatch):
    """The processes that are started."""
    started, popen = [], subprocess.Popen

    def start(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def test_a_process_that_is_killed_is_reported(run_dir, processes):
    warnings = []
    with Tracking(["tensorboard"], (), run_dir, warnings.append) as trackers:
        while not processes:
            time.sleep(0.01)
        processes[0].kill()
        processes[0].wait()
        for line in LINES:
            trackers.log(line)
    (warning,) = warnings
    assert warning.endswith("(RuntimeError: its process ended with -9)")


def test_a_process_that_hangs_ends_some_time_after_the_run(run_dir):
    script = f"""
import os, pathlib, signal, subprocess
from jaxdrl.runs import trackers as tracking

started, popen = [], subprocess.Popen
subprocess.Popen = lambda *args, **kwargs: started.append(popen(*args, **kwargs)) or started[-1]
tracking.SECONDS_TO_FINISH, tracking.SECONDS_TO_LINGER = 1.0, 1
lines = [{{"env_steps": n, "words": "x" * 10_000}} for n in range(100)]  # more than fit a pipe
with tracking.Tracking(["tensorboard"], (), pathlib.Path({str(run_dir)!r}), print) as trackers:
    for line in lines:
        trackers.log(line)
os.kill(started[0].pid, signal.SIGTERM)  # which is for the run
print(started[0].pid)
"""
    with (run_dir / ".tensorboard.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for which it waits
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        warning, pid = done.stdout.splitlines()
        assert "tensorboard had not finished 1 s after the run" in warning
        assert is_running(int(pid))
        ended = time.monotonic() + 30
        while is_running(int(pid)):
            assert time.monotonic() < ended
            time.sleep(0.05)


def is_running(pid):
    """Whether there is such a process, which may be nobody's child, that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class RunOfWandb(contextlib.nullcontext):
    """What `wandb.init` gives."""

    id = "a"

    def log(self, record, step):
        pass


def test_the_last_step_for_wandb_is_replaced_as_a_whole(run_dir, monkeypatch):
    """A kill never leaves a file that was cut short to be written anew."""
    how = {"Settings": lambda **_: None, "init": lambda **_: RunOfWandb()}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(**how))
    for name in ("DIR", "PROJECT", "NAME", "RESUME", "RUN_ID"):
        monkeypatch.setenv(f"WANDB_{name}", "a")
    with tracker_process.wandb(run_dir, {}) as log:
        log(LINES[0])
        with (run_dir / "wandb" / "last_step").open() as before:
            log(LINES[1])
            assert before.read() == "128"
    assert (run_dir / "wandb" / "last_step").read_text() == "256"


def test_what_a_killed_run_has_logged_is_kept(run_dir):
    script = f"""
import os, pathlib, signal, time
from jaxdrl.runs.trackers import Tracking

trackers = Tracking(["tensorboard"], (), pathlib.Path({str(run_dir)!r}), print)
for line in {LINES!r}:
    trackers.log(line)
while trackers.workers[0].lines.qsize():
    time.sleep(0.01)
time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -9
    with (run_dir / ".tensorboard.lock").open("a") as lock:
        while not (run_dir / "tensorboard").exists():
            time.sleep(0.05)
        fcntl.flock(lock, fcntl.LOCK_EX)  # which its process has to its end
    found = read_tensorboard(run_dir)
    assert [point for point in found if point[0] == "losses/policy_loss"] == [
        ("losses/policy_loss", line["env_steps"], line["policy_loss"]) for line in LINES
    ]


# Runs


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The digest of a run without trackers."""
    run_dir = tmp_path_factory.mktemp("runs") / "untracked"
    return jaxdrl.run(dataclasses.replace(EXPERIMENT, run_dir=run_dir)).result["state_sha256"]


def before_compiling(config):
    """The config without what is known later: counted memory, a first checkpoint, and the seal."""
    config = {k: v for k, v in config.items() if k not in ("has_checkpoints", "sha256")}
    return config | {"devices": {k: config["devices"][k] for k in ("num", "platform", "kind")}}


def test_no_tracker_harms_a_run(tmp_path, reference, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "SECONDS_TO_FINISH", 0.3)
    event, lines = threading.Event(), []
    full = OSError(errno.ENOSPC, "No space left on device")
    own = [broken(stage, full) for stage in ("call", "open", "log", "close")]
    own += [broken("log", ValueError("[/bold] [such]")), hanging(event), recorder(lines)]
    run = jaxdrl.run(dataclasses.replace(EXPERIMENT, run_dir=tmp_path / "run"), trackers=own)
    event.set()
    assert run.result["state_sha256"] == reference
    lines[0] = run.run_dir, before_compiling(lines[0][1])
    assert lines == [
        (run.run_dir, before_compiling(json.loads((run.run_dir / "config.json").read_text()))),
        *lines_of(run.run_dir),
        "closed",
    ]
    assert lines[2]["evaluation_mean_return"] > 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warnings) == 6
    assert sum("(OSError: [Errno 28] No space left on device)" in w for w in warnings) == 4
    assert sum("(ValueError: [/bold] [such])" in w for w in warnings) == 1
    assert sum("hung had not finished 0.3 s after the run" in w for w in warnings) == 1


@pytest.mark.parametrize("evaluate_every", [None, 1])
def test_a_line_comes_once_where_a_signal_stops_the_run(tmp_path, evaluate_every):
    lines = []

    @contextlib.contextmanager
    def stopping(run_dir, config):
        def log(record):
            lines.append(record)
            if record["update"] == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        yield log

    experiment = dataclasses.replace(
        EXPERIMENT,
        run_dir=tmp_path / "run",
        total_env_steps=128 * 40,
        evaluate_every=evaluate_every,
    )
    with pytest.raises(RunInterruptedError):
        jaxdrl.run(experiment, trackers=[stopping])
    assert 2 <= len(lines) < 40
    jaxdrl.resume(experiment.run_dir, trackers=[stopping])
    assert lines == lines_of(experiment.run_dir)
    assert sum("evaluation_mean_return" in line for line in lines) == (40 if evaluate_every else 1)


def points(record, without=()):
    """`(tag, step, value)` of a line."""
    return [(t, record["env_steps"], v) for t, v in tagged(record).items() if t not in without]


def read_tensorboard(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "tensors": 0}
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance=everything)
    events.Reload()
    return [(t, e.step, e.value) for t in events.Tags()["scalars"] for e in events.Scalars(t)]


def wandb_records(path):
    """The records of a file of W&B: those of a LevelDB log, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def read_wandb(run_dir):
    found, ids = [], set()
    for path in sorted((run_dir / "wandb").glob("offline-run-*/*.wandb")):
        for record in wandb_records(path):
            items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
            step = int(items.pop("_step", 0))
            found += [(k, step, json.loads(v)) for k, v in items.items() if k[0] != "_"]
            ids |= {record.run.run_id} - {""}
    assert len(ids) == 1
    return found


def mlflow_run(run_dir):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run_dir / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'jaxdrl'")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def read_mlflow(run_dir):
    client, run = mlflow_run(run_dir)
    assert run.info.status == "FINISHED"
    histories = [client.get_metric_history(run.info.run_id, key) for key in run.data.metrics]
    return [(m.key, m.step, m.value) for history in histories for m in history]


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def assert_same(found, expected):
    assert [point[:2] for point in sorted(found)] == [point[:2] for point in sorted(expected)]
    values = [point[2] for point in sorted(expected)]  # TensorBoard keeps them as float32
    assert [point[2] for point in sorted(found)] == pytest.approx(values, rel=1e-6, abs=1e-30)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, reference):
    """A run that all three track, resumed from its first checkpoint; what they held before that."""
    run_dir = tmp_path_factory.mktemp("runs") / "tracked"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trackers, "SECONDS_TO_FINISH", 200.0)  # on a busy machine
        experiment = dataclasses.replace(EXPERIMENT, run_dir=run_dir, track=NAMES)
        assert jaxdrl.run(experiment).result["state_sha256"] == reference
        before = lines_of(run_dir), {name: read(run_dir) for name, read in READERS.items()}
        jaxdrl.resume(run_dir, checkpoint=1, total_env_steps=128 * 5)
    return run_dir, *before


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_holds_what_the_file_of_metrics_holds(tracked, name):
    _, lines, found = tracked
    assert len(lines) == 3
    assert_same(found[name], [point for line in lines for point in points(line)])


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_leaves_no_duplicates(tracked, name):
    run_dir, before, _ = tracked
    lines = lines_of(run_dir)
    assert [line["update"] for line in lines] == [1, 2, 3, 4, 5]
    # What W&B and MLflow had of updates that came again they keep, the time they took included.
    earlier = {} if name == "tensorboard" else {line["update"]: line for line in before}
    kept = [earlier.get(line["update"], line) for line in lines]
    assert_same(READERS[name](run_dir), [point for line in kept for point in points(line)])
    for old, new in zip(before, lines, strict=False):
        assert points(old, {"charts/SPS"})[:5] == points(new, {"charts/SPS"})[:5]


def test_all_have_the_settings(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run_dir, _, _ = tracked
    config = json.loads((run_dir / "config.json").read_text())
    flat = hyperparameters(config)
    assert flat["num_envs"] == 16

    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    content = events.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    values = {k: getattr(v, v.WhichOneof("kind")) for k, v in hparams.items()}
    settings = flat | {"total_env_steps": 300}  # as it was before the run was made longer
    assert values == settings
    (text,) = events.Tensors("config")[-1].tensor_proto.string_val
    assert before_compiling(json.loads(text)) == before_compiling(config)

    path = max((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    (run,) = [record.run for record in wandb_records(path) if record.run.run_id]
    told = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert told["experiment"] == config["experiment"]
    assert (run.project, run.display_name) == ("jaxdrl", "tracked")

    _, run = mlflow_run(run_dir)
    assert run.data.params == {k: str(v) for k, v in settings.items()}
