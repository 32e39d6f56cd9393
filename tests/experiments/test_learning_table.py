"""`experiments/learning_table.py` in its short form, and the arithmetic behind the table."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import jaxdrl
from jaxdrl.config.presets import SUITE_TASKS, TASKS
from jaxdrl.config.settings import with_settings
from jaxdrl.runs.stopping import RunInterruptedError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

from learning import bounds, cells, notes, tables  # noqa: E402

TASK = "MemoryChain-bsuite"


def fill(directory, *flags):
    """Runs the script in its short form; what it printed."""
    command = [sys.executable, str(EXPERIMENTS / "learning_table.py"), "--short"]
    command += ["--results", str(directory / "results"), "--runs", str(directory / "runs")]
    process = subprocess.run(
        [*command, *flags],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(EXPERIMENTS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("table")
    pytest.importorskip("matplotlib")
    printed = fill(directory, "--tasks", TASK, "CartPole-v1", "--seeds", "2", "--algorithms", "ppo")
    return directory, printed


def test_the_table_has_a_row_a_task_and_says_what_its_figures_are(filled):
    directory, printed = filled
    assert [f"{TASK}, seed {seed} " in printed for seed in (0, 1)] == [True, True]
    rows = json.loads((directory / "results/learning_table.json").read_text())["tasks"]
    assert list(rows) == [TASK, "CartPole-v1"]
    row = rows[TASK]["ppo"]
    assert row["num_seeds"] == len(row["returns"]) == 2
    assert row["ci95_low"] <= row["mean"] <= row["ci95_high"]
    assert row["env_steps"] == 2 * jaxdrl.make_config(TASK).env_steps_per_update
    text = (directory / "results/learning_table.md").read_text()
    for line in tables.markdown_rows(tables.of_algorithm(rows, "ppo")):
        assert line in text
    assert "over 2 seeds\nwith 4 whole greedy episodes each" in text
    assert f"| {TASK} (GRU) | " in text
    assert f"- {TASK}: needs a recurrent policy." in text
    assert (directory / "results/learning_curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table_has_a_column_for_each_algorithm_that_has_a_preset_of_the_task(filled, tmp_path):
    """Cells of PPO lie where they did before there were others, and are not trained anew."""
    shutil.copytree(filled[0] / "results", tmp_path / "results")
    flags = ("--tasks", TASK, "CartPole-v1", "--seeds", "1", "--algorithms", "ppo", "impala")
    printed = fill(tmp_path, *flags)
    assert printed.count(", seed 0 ") == printed.count("CartPole-v1 by impala, seed 0 ") == 1
    assert (tmp_path / "results/learning/CartPole-v1/impala/seed0.json").exists()
    rows = json.loads((tmp_path / "results/learning_table.json").read_text())["tasks"]
    assert {task: list(of_task) for task, of_task in rows.items()} == {
        TASK: ["ppo"],
        "CartPole-v1": ["ppo", "impala"],
    }
    heading, _, line = tables.comparison(rows)
    assert heading == "| task | PPO | IMPALA |"
    task, *cells_of_task = line.strip("| ").split(" | ")
    assert task == "CartPole-v1"
    for text, row in zip(cells_of_task, rows["CartPole-v1"].values(), strict=True):
        assert text.startswith(f"{tables.number(row['mean'])} (")
        assert f"; {row['env_steps'] / 1000:.0f}k, " in text
    page = (tmp_path / "results/learning_table.md").read_text()
    assert f"{heading}\n| --- | --- | --- |\n{line}\n" in page
    assert "## PPO\n" in page and "## IMPALA\n" in page
    picture = tmp_path / "results/learning_curves_by_algorithm.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_cell_is_kept_unless_its_settings_change(filled):
    directory, _ = filled
    path = directory / "results/learning" / TASK / "seed0.json"
    before = path.read_text()
    assert "seed 0" not in fill(directory, "--tasks", TASK, "--algorithms", "ppo", "--seeds", "1")
    assert path.read_text() == before
    cell = json.loads(before)
    cell["settings"]["ppo"]["gamma"] = 0.5
    path.write_text(json.dumps(cell))
    printed = fill(
        directory, "--tasks", TASK, "--algorithms", "ppo", "--seeds", "1", "--minutes", "1e-9"
    )
    assert "minutes are over; the same command goes on" in printed


def test_a_stopped_cell_goes_on(tmp_path):
    """A cell whose run has a checkpoint and no result ends as one that was never stopped."""
    experiment = jaxdrl.make_experiment("CartPole-v1")
    ppo = with_settings(
        experiment.algorithm, num_envs=16, num_steps=8, num_minibatches=2, hidden_sizes=(8,)
    )
    experiment = replace(experiment, total_env_steps=4 * 128, num_eval_episodes=8, algorithm=ppo)
    straight = cells.measure(experiment, tmp_path / "a.json", tmp_path / "a", print)

    def stop(update, metrics):
        if update == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterruptedError, match="is saved"):
        jaxdrl.run(replace(experiment, run_dir=tmp_path / "b"), on_update=stop)
    resumed = cells.measure(experiment, tmp_path / "b.json", tmp_path / "b", print)
    assert resumed["evaluation"] == straight["evaluation"]
    assert resumed["curve"] == straight["curve"]
    assert resumed["settings"] == straight["settings"]


def test_settings_are_what_differs_from_the_defaults():
    experiment = replace(jaxdrl.make_experiment("Pendulum-v1"), devices=1, seed=3)
    settings = cells.settings_of(experiment)
    assert settings["env"] == "Pendulum-v1"
    assert settings["seed"] == 3
    assert settings["ppo"]["gae_lambda"] == 0.98
    assert "devices" not in settings
    assert "clip_epsilon" not in settings["ppo"]
    other = replace(experiment, algorithm=replace(experiment.algorithm, gamma=0.9))
    assert cells.digest(other) != cells.digest(experiment)
    assert cells.digest(replace(experiment, devices=2)) == cells.digest(experiment)


def test_every_task_of_gymnax_has_a_note_and_none_is_of_an_unknown_task():
    assert set(TASKS) <= set(notes.NOTES) <= set(TASKS | SUITE_TASKS)


def test_the_curve_is_the_mean_return_of_equal_parts(tmp_path):
    lines = [
        {"env_steps": 10 * i, "num_episodes": i % 3, "episode_return": float(i) if i % 3 else None}
        for i in range(1, 201)
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    curve = cells.curve(file)
    assert curve["env_steps"][:2] == [40, 80]
    assert curve["env_steps"][-1] == 2000
    assert curve["episode_return"][0] == pytest.approx((1 * 1 + 2 * 2 + 4 * 1) / 4)
    assert all(a < b for a, b in pairwise(curve["env_steps"]))


# Bounds.


def test_the_bayes_optimal_bandit_player_by_simulation():
    """Pulling the likelier arm by the posterior reaches the bound; by hand for two pulls."""
    assert bounds.bernoulli_bandit(1) == 0.5
    # One pull tells the better arm with probability 0.9: 0.5 + 0.9 * 0.9 + 0.1 * 0.1.
    assert bounds.bernoulli_bandit(2) == pytest.approx(0.5 + 0.82)
    rng, num = np.random.default_rng(0), 40_000
    good, lead, total = rng.integers(2, size=num), np.zeros(num), np.zeros(num)
    for _ in range(100):
        arm = np.where(lead == 0, 0, lead < 0)
        reward = rng.random(num) < np.where(arm == good, 0.9, 0.1)
        lead += np.where((arm == 0) == reward, 1, -1)
        total += reward
    assert bounds.bernoulli_bandit() == pytest.approx(total.mean(), abs=5 * total.std() / 200)


def test_the_gaussian_bandit_by_simulation():
    rng = np.random.default_rng(0)
    mu = rng.normal(-1.0, 1.0, size=1_000_000)
    returns = mu + 99 * np.maximum(mu, 0.0)
    error = returns.std() / 1000
    assert bounds.gaussian_bandit() == pytest.approx(returns.mean(), abs=5 * error)


def test_the_frozen_lake_by_linear_equations():
    """Without a limit the goal is reached with probability 14/17, a known value of this map."""
    assert bounds.frozen_lake(5_000) == pytest.approx(14 / 17, abs=1e-6)
    assert 0.7 < bounds.frozen_lake(100) < 14 / 17
    assert bounds.frozen_lake(5) == 0.0  # six moves are the least


def test_the_best_pendulum_on_a_grid_and_of_a_player_by_hand():
    """Pumping energy and then balancing is no better than the bound, and not much worse."""
    bound = bounds.pendulum()
    assert bound == pytest.approx(-141.0, abs=0.1)
    rng = np.random.default_rng(0)
    angle, speed = rng.uniform(-np.pi, np.pi, 5_000), rng.uniform(-1.0, 1.0, 5_000)
    total = np.zeros_like(angle)
    for _ in range(200):
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        lacking = 15.0 - (0.5 * speed**2 + 15.0 * np.cos(angle))
        balancing = -12.0 * angle - 3.0 * speed
        pumping = np.where(lacking > 0, 2.0 * np.sign(speed), -2.0 * np.sign(speed))
        torque = np.clip(np.where(np.abs(angle) < 0.6, balancing, pumping), -2.0, 2.0)
        total -= angle**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
        angle = angle + 0.05 * speed
    assert -250 < total.mean() < bound
