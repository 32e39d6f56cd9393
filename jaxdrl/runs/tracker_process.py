"""The process of a tracker that `Experiment.track` names: TensorBoard, W&B or MLflow.

Importing this module imports none of their libraries, and neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdrl.io.json_files import SEAL, read_bytes
from jaxdrl.io.safe_files import open_to_append, require_own, write_text
from jaxdrl.runs.run_dir import CONFIG_FILE
from jaxdrl.runs.trackers import Tracker

Log = Iterator[Callable[[dict[str, Any]], Any]]

TAGS = {
    "update": "charts/update",
    "episode_return": "charts/episodic_return",
    "episode_length": "charts/episodic_length",
    "num_episodes": "charts/num_episodes",
    "steps_per_second": "charts/SPS",
    "learning_rate": "charts/learning_rate",
    "entropy": "losses/entropy",
    "approx_kl": "losses/approx_kl",
    "clip_fraction": "losses/clipfrac",
    "q_value": "losses/q_values",
    "explained_variance": "losses/explained_variance",
    "grad_norm": "losses/grad_norm",
    "skipped_steps": "health/skipped_steps",
    "nonfinite_observations": "health/nonfinite_observations",
    "nonfinite_rewards": "health/nonfinite_rewards",
    "nonfinite_values": "health/nonfinite_values",
    "nonfinite_params": "health/nonfinite_params",
    "states_without_action": "health/states_without_action",
}
"""The names of metrics in all three trackers: those of CleanRL where it has them."""

SECONDS_BETWEEN_LOOKS = 1.0
"""How often the process looks for lines: many at once are cheaper than one by one."""

SECONDS_BETWEEN_BATCHES = 5.0
"""The least time between two writes to MLflow's store; each call is a transaction."""

START_ANEW = "remove it, and the tracker starts anew"
"""What to do about a damaged file in which a tracker keeps its place."""

METRICS_A_BATCH = 1000
"""The most that MLflow takes in one call."""


def tag(name: str) -> str:
    """The name of a metric in the trackers, such as `losses/policy_loss` or `eval/mean_return`."""
    if name.startswith("evaluation_"):
        return f"eval/{name.removeprefix('evaluation_')}"
    return TAGS.get(name, f"losses/{name}" if name.endswith("_loss") else f"charts/{name}")


def tagged(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line by their tags, without nulls and `env_steps`."""
    return {
        tag(name): value
        for name, value in record.items()
        if name != "env_steps" and isinstance(value, int | float)
    }


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one, with names such as `algorithm.gamma`."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= flatten(item, f"{prefix}{name}.")
        else:
            flat[prefix + name] = item
    return flat


def hyperparameters(config: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """The content of `config.json` by flat names; settings by the names of their flags."""
    rest = {name: item for name, item in config.items() if name != "experiment"}
    experiment = dict(config["experiment"])
    algorithm = experiment.pop("algorithm")
    flat = {"algorithm": algorithm["kind"]} | _settings(algorithm)
    flat |= flatten(experiment) | flatten(rest)
    # These are not settings, and they change during the run.
    for name in ("devices.needed_bytes", "devices.is_counted", "has_checkpoints", SEAL):
        flat.pop(name, None)
    return {k: v if isinstance(v, bool | int | float) else str(v) for k, v in flat.items()}


def _settings(algorithm: dict[str, Any]) -> dict[str, Any]:
    """The settings of an algorithm, nested or not, by the names of their flags."""
    flat: dict[str, Any] = {}
    for name, item in algorithm.items():
        if isinstance(item, dict):
            flat |= _settings(item)
        elif not name.startswith("kind"):
            flat[name] = item
    return flat


@contextlib.contextmanager
def tensorboard(run_dir: Path, config: dict[str, Any]) -> Log:
    """Event files in `RUN_DIR/tensorboard`, with the hyperparameters and the config as text."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    require_own(run_dir / "tensorboard")
    writer = EventFileWriter(str(run_dir / "tensorboard"), flush_secs=10)
    is_first = True

    def log(record: dict[str, Any]) -> None:
        nonlocal is_first
        step, now = record["env_steps"], time.time()
        if is_first:  # after a resume, what an earlier process wrote from here on is void
            restart = SessionLog(status=SessionLog.START)
            writer.add_event(Event(wall_time=now, step=step, session_log=restart))
            is_first = False
        values = [Summary.Value(tag=t, simple_value=v) for t, v in tagged(record).items()]
        writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))

    try:
        # Markdown, in which four spaces start a code block.
        words = json.dumps(config, indent=4).replace("\n", "\n    ")
        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = make_tensor_proto(f"    {words}")
        text = Summary.Value(tag="config", metadata=plugin, tensor=tensor)
        for summary in (hparams_pb(hyperparameters(config)), Summary(value=[text])):
            writer.add_event(Event(wall_time=time.time(), summary=summary))
        yield log
    finally:
        writer.close()


@contextlib.contextmanager
def wandb(run_dir: Path, config: dict[str, Any]) -> Log:
    """A run in Weights & Biases, whose environment variables decide where it goes.

    W&B cannot go back: steps that a resumed run logs again stay as they were.
    """
    import wandb

    run_id, last_step = run_dir / "wandb" / "run_id", run_dir / "wandb" / "last_step"
    require_own(run_id.parent, last_step)
    run_id.parent.mkdir(exist_ok=True)
    if run_id.exists():
        os.environ["WANDB_RUN_ID"] = read_bytes(run_id, START_ANEW).decode()
    name = run_dir.resolve().name
    defaults = {"DIR": str(run_dir), "PROJECT": "jaxdrl", "NAME": name, "RESUME": "allow"}
    for name, value in defaults.items():
        os.environ.setdefault(f"WANDB_{name}", value)
    # System metrics are those of the process of the run.
    settings = wandb.Settings(console="off", x_stats_pid=os.getppid())
    run = wandb.init(config=config, settings=settings)
    write_text(run_id, run.id)
    done = int(read_bytes(last_step, START_ANEW)) if last_step.exists() else -1

    def log(record: dict[str, Any]) -> None:
        step = record["env_steps"]
        if step > done:
            run.log(tagged(record), step=step)
            write_text(last_step, str(step), durable=False)

    with run:
        yield log


@contextlib.contextmanager
def mlflow(run_dir: Path, config: dict[str, Any]) -> Log:
    """A run in MLflow, in `RUN_DIR/mlflow.db` unless `MLFLOW_TRACKING_URI` names another store.

    Steps that a resumed run logs again stay as they were, as in W&B.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    require_own(run_dir / "mlflow.db")
    client = MlflowClient(
        os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run_dir.resolve() / 'mlflow.db'}"
    )
    run_id = _mlflow_run(client, run_dir)
    known = client.get_run(run_id).data.params
    client.log_batch(
        run_id,
        params=[Param(k, str(v)) for k, v in hyperparameters(config).items() if k not in known],
    )
    steps = [metric.step for metric in client.get_metric_history(run_id, tag("update"))]
    done = max(steps, default=-1)
    batch: list[Any] = []
    written = 0.0

    def write() -> None:
        nonlocal written
        client.log_batch(run_id, metrics=batch)
        batch.clear()
        written = time.monotonic()

    def log(record: dict[str, Any]) -> None:
        step, now = record["env_steps"], int(time.time() * 1000)
        if step <= done:
            return
        metrics = [Metric(t, v, now, step) for t, v in tagged(record).items()]
        if len(batch) + len(metrics) > METRICS_A_BATCH:
            write()
        batch.extend(metrics)
        if time.monotonic() - written > SECONDS_BETWEEN_BATCHES:
            write()

    yield log
    write()
    client.set_terminated(run_id)


def _mlflow_run(client: Any, run_dir: Path) -> str:
    """The id of the run that an earlier process made in this store, or of a new one."""
    from mlflow.exceptions import MlflowException

    path = run_dir / "mlflow_run_id"
    if path.exists():
        run_id = read_bytes(path, START_ANEW).decode()
        try:
            client.update_run(run_id, status="RUNNING")
            return run_id
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "jaxdrl")
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    run = client.create_run(experiment_id, run_name=run_dir.resolve().name)
    write_text(path, run.info.run_id)
    return run.info.run_id


NAMED: dict[str, Tracker] = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}


def main(name: str, run_dir: Path, seconds_to_linger: int) -> None:
    """Passes the lines of standard input to a tracker; exits with 1 and its error if it fails.

    This is the process that `jaxdrl.runs.trackers.in_own_process` starts.
    """
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints is not part of the output of the run
    threading.Thread(target=_end_after_the_run, args=(seconds_to_linger,), daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # some schedulers send it to every process
    os.nice(5)  # training goes first
    try:
        with open_to_append(run_dir / f".{name}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the process of a killed run may still be finishing
            config = json.loads((run_dir / CONFIG_FILE).read_text())
            with NAMED[name](run_dir, config) as log:
                for line in _lines():
                    log(json.loads(line))
    except BaseException as error:
        words.write(f"{type(error).__name__}: {error}")
        words.flush()
        sys.exit(1)


def _lines() -> Iterator[bytes]:
    """The lines of standard input, those of a second at a time."""
    torn = b""
    while chunk := os.read(0, 2**16):
        *lines, torn = (torn + chunk).split(b"\n")
        yield from lines
        if len(chunk) < 2**16:
            _wait_for_the_end(SECONDS_BETWEEN_LOOKS)


def _wait_for_the_end(seconds: float | None) -> None:
    """Waits for the run to close its end of the pipe, at most so long; lines may be left in it."""
    poller = select.poll()
    poller.register(0, 0)  # no event but the end
    poller.poll(None if seconds is None else 1000 * seconds)


def _end_after_the_run(seconds: int) -> None:
    """Ends this process some time after the end of the run, whatever it is doing."""
    _wait_for_the_end(None)
    signal.alarm(seconds)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
