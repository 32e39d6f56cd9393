"""Sweeps of seconds, which several test files start from."""

import contextlib
import dataclasses
import io
import json

from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from small_runs import CARTPOLE, PPO

WAVES = dataclasses.replace(
    CARTPOLE,
    total_env_steps=4 * 128,
    anneal_learning_rate=False,
    evaluate_every=None,
    checkpoint_every=1,
    algorithm=with_settings(PPO, reproducible=True),
    sweep=Sweep({"learning_rate": "log:0.0001:0.01"}, members=3, wave_size=2),
)
"""Three members, of which two are trained at once."""


def quietly(function, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **kwargs)


def content(path):
    return json.loads(path.read_text())


def without_times(result):
    measured = ("compile_seconds", "train_seconds", "steps_per_second", "run_id", "sha256")
    return {name: value for name, value in result.items() if name not in measured}
