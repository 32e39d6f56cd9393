"""The config of a run: what follows from its fields, and what is refused."""

import dataclasses
from pathlib import Path

import pytest

from jaxdrl import launch
from jaxdrl.cli import main
from jaxdrl.config import experiment
from jaxdrl.config.experiment import default_run_dir, resolve
from jaxdrl.errors import ConfigError
from small_runs import CARTPOLE, PPO


def test_the_length_of_the_run_fills_the_annealing():
    assert resolve(CARTPOLE).algorithm.anneal_env_steps == 300.0
    constant = dataclasses.replace(CARTPOLE, anneal_learning_rate=False)
    assert resolve(constant) == constant
    given = dataclasses.replace(PPO, anneal_env_steps=7.0)
    assert resolve(dataclasses.replace(CARTPOLE, algorithm=given)).algorithm.anneal_env_steps == 7.0


def test_a_flag_for_the_length_of_a_script_changes_the_annealing_too(monkeypatch):
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    monkeypatch.setattr("sys.argv", ["script.py", "--total-env-steps", "9000"])
    main.run_script(CARTPOLE, "A script.")
    assert resolve(received[0]).algorithm.anneal_env_steps == 9000.0
    assert received[0].total_env_steps == 9000
    assert dataclasses.replace(received[0], total_env_steps=300) == CARTPOLE


@pytest.mark.parametrize(("env_steps", "num_updates"), [(1, 1), (128, 1), (129, 2), (1280, 10)])
def test_env_steps_are_rounded_up_to_whole_updates(env_steps, num_updates):
    assert dataclasses.replace(CARTPOLE, total_env_steps=env_steps).num_updates == num_updates


def test_the_default_directory_tells_what_is_trained_and_since_when(monkeypatch):
    monkeypatch.setattr(experiment.time, "strftime", lambda _: "20260101-120000")
    expected = Path("runs") / "CartPole-v1-seed0-20260101-120000"
    assert default_run_dir(CARTPOLE) == expected
    other = dataclasses.replace(CARTPOLE, env="suite/Env", seed=3)
    assert default_run_dir(other) == Path("runs") / "suite-Env-seed3-20260101-120000"


@pytest.mark.parametrize(
    ("field", "value", "works"),
    [
        *(
            (field, value, "must be an integer of at least 1")
            for field in (
                *("total_env_steps", "log_every"),
                *("keep_checkpoints", "max_skipped_updates"),
            )
            for value in (0, -1, 1.5, True, None, "8")
        ),
        *(
            (field, value, "must be an integer of at least 1")
            for field in ("devices", "evaluate_every", "checkpoint_every", "export_every")
            for value in (0, -1, 1.0, True, "8")
        ),
        *(
            ("checkpoint_minutes", value, "must be a finite number above 0, or None")
            for value in (0, -1.0, float("inf"), "5")
        ),
        *(
            ("num_eval_episodes", value, "must be an integer from 1 to 1000000")
            for value in (0, -1, 1.5, True, "8", None, 1_000_001)
        ),
        *(
            ("seed", value, "must be an integer from 0 to 2**32 - 1")
            for value in (-1, 2**32, 0.5, True, None)
        ),
        *(
            ("devices", value, "must divide num_shards = 8; 1, 2, 4, 8 do, or change")
            for value in (3, 5, 16)
        ),
    ],
)
def test_bad_values_are_refused(field, value, works):
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(CARTPOLE, **{field: value})
    assert str(caught.value).startswith(f"{field} = {value!r}: {works}")
