"""Checkpoints as a training would write them, whose policies can be told apart by what they do."""

import dataclasses
import shutil

import numpy as np

from jaxdrl.io.json_files import read_object
from jaxdrl.runs import checkpoint
from small_runs import CARTPOLE, run_quietly

OBS = np.array([0.1, -0.2, 0.03, 0.4], np.float32)


def make_run(run_dir, **changes):
    """A run of one update."""
    experiment = dataclasses.replace(CARTPOLE, total_env_steps=128, run_dir=run_dir, **changes)
    return run_quietly(experiment)[0]


def copy_of(run_dir, to):
    shutil.copytree(run_dir, to)
    return to


def publish(run_dir, update, change=lambda arrays: None, **manifest):
    """Writes a valid checkpoint, in which the policy of CartPole always takes `update % 2`."""
    directory = run_dir / "checkpoints"
    last = checkpoint.path_of(directory, checkpoint.updates_in(directory)[0])
    content = read_object(last / "manifest.json", "")
    described = content.pop("arrays")
    with np.load(last / "state.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["learner/num_updates"] = np.asarray(update, np.int32)
    if "learner/params/policy/bias" in arrays:
        arrays["learner/params/policy/bias"] = 1000 * np.eye(2, dtype=np.float32)[update % 2]
    change(arrays)
    kept = {"format_version", "update"}
    content = {name: value for name, value in content.items() if name not in kept} | manifest
    return checkpoint.write(directory, update, arrays, described, content)
