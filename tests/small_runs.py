"""Runs of a second, which several test files start from."""

import contextlib
import io
import json
import os
import signal

import pytest

import jaxdrl
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.config.stored import to_json
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.stopping import RunInterruptedError

PPO = with_settings(
    PPOConfig(), num_envs=16, num_steps=8, num_epochs=1, num_minibatches=2, hidden_sizes=(8,)
)
CARTPOLE = Experiment(
    env="CartPole-v1",
    env_params={"max_steps_in_episode": 12},
    total_env_steps=300,  # rounded up to 3 updates of 128
    devices=2,
    anneal_learning_rate=True,
    evaluate_every=2,
    num_eval_episodes=8,
    algorithm=PPO,
)


def config_of(experiment, run_id="a run", part_of=None):
    """What `config.json` says of an experiment at the least."""
    about = {"format_version": 2, "env_params": {}, "overrides": [], "spaces": ""}
    about |= {"run_id": run_id, "part_of": part_of, "has_checkpoints": False}
    return about | {"experiment": to_json(experiment)}


def run_quietly(*args, **kwargs):
    """`(run, what it printed)`."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run = jaxdrl.run(*args, **kwargs)
    return run, output.getvalue()


def read(run_dir, name):
    return json.loads((run_dir / name).read_text(), parse_constant=pytest.fail)


def lines_of(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def stopped_after(update, experiment, name="SIGTERM", **arguments):
    """A run that a signal stops while it does `update`; what it says on its way out."""
    original = Saver.is_due

    def is_due(self, at):
        if at == update:
            os.kill(os.getpid(), getattr(signal, name))
        return original(self, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "is_due", is_due)
        with pytest.raises(RunInterruptedError) as caught:
            run_quietly(experiment, **arguments)
    return str(caught.value)


def resumed(*args, **kwargs):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run = jaxdrl.resume(*args, **kwargs)
    return run, output.getvalue()


def without_speed(run_dir):
    measured = {"steps_per_second", "memory_bytes"}
    return [{k: v for k, v in line.items() if k not in measured} for line in lines_of(run_dir)]
