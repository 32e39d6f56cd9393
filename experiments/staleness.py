"""What the age of the data costs: return against staleness, with and without V-trace.

Every run trains with data that is exactly so many updates old (`--staleness`), and with a constant
learning rate. Only the age of the data and the correction differ, so that a seed compares them.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from learning.cells import curve
from rich.console import Console
from rich.table import Table

import jaxdrl
from jaxdrl import ConfigError, Experiment, make_experiment
from jaxdrl.analysis.figures import COLOURS, count_axis, legend_beside, picture
from jaxdrl.evaluation.episodes import bootstrap_interval
from jaxdrl.io.json_files import write_json
from jaxdrl.runs.machine import versions
from jaxdrl.runs.run_dir import METRICS_FILE
from jaxdrl.runs.stopping import RunInterruptedError

CORRECTIONS = {"none": "PPO", "vtrace": "PPO with V-trace"}
LINES = {"none": "-", "vtrace": "--"}
"""How the lines of each correction are drawn."""
CURVE_POINTS = 24
METRICS = ("clip_fraction", "approx_kl")
"""Means over a run, by which `jaxdrl watch` notices data that is too old."""

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Staleness:
    """What is trained, how often, and where the figures go."""

    env: str = "CartPole-v1"
    """Environment; one of the host works as well."""
    staleness: tuple[int, ...] = (0, 1, 2, 4, 8)
    """Ages of the data, in updates."""
    num_envs: int = 64
    """Environments of a run."""
    num_steps: int = 64
    """Steps of each in an update."""
    learning_rate: float = 2.5e-3
    """Learning rate, which stays constant."""
    env_steps: int = 196_608
    """Environment steps of a run."""
    seeds: int = 10
    """Runs of each kind, with the seeds from 0 on."""
    results: Path = ROOT / "experiments/results/staleness.json"
    """File of the figures; what it holds already is not trained again."""
    picture: Path = ROOT / "docs/images/staleness.png"
    """File of the picture."""
    runs: Path = Path("runs/staleness")
    """Directory of the run directories."""

    def settings(self) -> dict[str, Any]:
        """What decides a row besides its staleness, correction and seed."""
        others = ("staleness", "seeds", "results", "picture", "runs")
        return {name: value for name, value in asdict(self).items() if name not in others}


def experiment_of(config: Staleness, staleness: int, correction: str, seed: int) -> Experiment:
    """What one run trains."""
    name = f"{config.env}-{correction}-{staleness}-{seed}".replace("/", "-")
    return make_experiment(
        config.env,
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        num_epochs=4,
        num_minibatches=4,
        learning_rate=config.learning_rate,
        anneal_learning_rate=False,
        total_env_steps=config.env_steps,
        num_eval_episodes=32,
        staleness=staleness,
        correction=correction,
        seed=seed,
        run_dir=config.runs / name,
    )


def measure(config: Staleness, staleness: int, correction: str, seed: int) -> dict[str, Any]:
    """Trains, or goes on, and keeps what the table and the picture need."""
    run = jaxdrl.run(experiment_of(config, staleness, correction, seed), resume=True)
    lines = [json.loads(x) for x in (run.run_dir / METRICS_FILE).read_text().splitlines()]
    return {
        "staleness": staleness,
        "correction": correction,
        "seed": seed,
        "last_quarter": last_quarter(lines),
        "greedy": run.result["evaluation"]["mean_return"],
        **{name: float(np.mean([line[name] for line in lines])) for name in METRICS},
        "curve": curve(run.run_dir / METRICS_FILE, CURVE_POINTS),
    }


def last_quarter(lines: list[dict[str, Any]]) -> float:
    """Mean return of the training episodes that ended in the last quarter of a run's steps."""
    start = 0.75 * lines[-1]["env_steps"]
    late = [line for line in lines if line["env_steps"] > start and line["num_episodes"]]
    weights = [line["num_episodes"] for line in late]
    return float(np.average([line["episode_return"] for line in late], weights=weights))


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the seeds: mean and 95% interval of the return, and the mean of the metrics."""
    found = []
    for correction in CORRECTIONS:
        for age in sorted({row["staleness"] for row in rows}):
            own = [r for r in rows if (r["correction"], r["staleness"]) == (correction, age)]
            if not own:
                continue
            returns = np.array([row["last_quarter"] for row in own])
            low, high = bootstrap_interval(returns)
            means = {x: float(np.mean([r[x] for r in own])) for x in ("greedy", *METRICS)}
            of_return = {"last_quarter": float(returns.mean()), "ci95": (low, high)}
            kind = {"correction": correction, "staleness": age, "num_seeds": len(own)}
            found.append(kind | of_return | means)
    return found


def draw(config: Staleness, rows: list[dict[str, Any]], out: Path) -> None:
    """Return against staleness with its interval, and the curves of training."""
    with picture(out, 9.0, 4.2) as figure:
        left, right = figure.subplots(1, 2)
        draw_returns(left, rows)
        draw_curves(right, rows)
        num_seeds = len({row["seed"] for row in rows})
        figure.suptitle(f"{config.env}, {num_seeds} seeds")
        left.set_title("mean and its 95% interval over the seeds", fontsize=9)
        right.set_title("mean of the seeds", fontsize=9)
        legend_beside(figure)


def draw_returns(axes: Any, rows: list[dict[str, Any]]) -> None:
    """The return in the last quarter against staleness, with and without V-trace."""
    ages = sorted({row["staleness"] for row in rows})
    for i, (correction, label) in enumerate(CORRECTIONS.items()):
        own = [found for found in summarise(rows) if found["correction"] == correction]
        x = np.array([ages.index(found["staleness"]) for found in own]) + 0.08 * i - 0.04
        mean = np.array([found["last_quarter"] for found in own])
        low, high = np.array([found["ci95"] for found in own]).T
        bars = [mean - low, high - mean]
        how = {"marker": "os"[i], "linestyle": LINES[correction], "color": "black"}
        axes.errorbar(x, mean, bars, label=label, **how)
    axes.set_xticks(range(len(ages)), [str(age) for age in ages])
    axes.set_xlabel("staleness: age of the data (updates)")
    axes.set_ylabel("return of training episodes,\nlast quarter of training")
    axes.set_ylim(bottom=0)


def draw_curves(axes: Any, rows: list[dict[str, Any]]) -> None:
    """The return of training episodes, one colour for each staleness."""
    for colour, age in zip(COLOURS, sorted({row["staleness"] for row in rows}), strict=False):
        for correction, style in LINES.items():
            own = [r for r in rows if (r["correction"], r["staleness"]) == (correction, age)]
            if own:
                label = f"staleness {age}" if correction == "none" else None
                axes.plot(*mean_curve(own), linestyle=style, color=colour, label=label)
    count_axis(axes.xaxis, "environment steps")
    axes.set_ylabel("return of training episodes")


def mean_curve(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the mean of the seeds from the step on at which each of them has a value."""
    curves = [row["curve"] for row in rows]
    steps = np.unique(np.concatenate([curve["env_steps"] for curve in curves]))
    steps = steps[steps >= max(curve["env_steps"][0] for curve in curves)]
    values = [np.interp(steps, curve["env_steps"], curve["episode_return"]) for curve in curves]
    return steps, np.mean(values, axis=0)


def load(config: Staleness) -> list[dict[str, Any]]:
    """What was measured with these settings before."""
    if not config.results.exists():
        return []
    stored = json.loads(config.results.read_text())
    return stored["rows"] if stored["settings"] == config.settings() else []


def compare(config: Staleness, console: Console) -> None:
    """Fills what is missing, seed by seed, and writes figures and picture after each seed."""
    rows = load(config)
    done = {(row["staleness"], row["correction"], row["seed"]) for row in rows}
    for seed in range(config.seeds):
        cells = [(age, correction, seed) for age in config.staleness for correction in CORRECTIONS]
        for age, correction, _ in (cell for cell in cells if cell not in done):
            console.rule(f"staleness {age}, {CORRECTIONS[correction]}, seed {seed}")
            rows.append(measure(config, age, correction, seed))
        found = {"settings": config.settings(), "versions": versions()}
        config.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(config.results, found | {"summary": summarise(rows), "rows": rows})
    draw(config, rows, config.picture)
    table = Table("staleness", "correction", "return", "95% interval", *METRICS, box=None)
    for row in summarise(rows):
        kind = (str(row["staleness"]), row["correction"], f"{row['last_quarter']:.4g}")
        numbers = [f"{row[name]:.2g}" for name in METRICS]
        table.add_row(*kind, "{:.4g} to {:.4g}".format(*row["ci95"]), *numbers)
    console.print(table)


def main() -> None:
    """Runs what the command line says."""
    config = tyro.cli(Staleness, description=__doc__)
    try:
        compare(config, Console(highlight=False))
    except RunInterruptedError as error:
        sys.exit(f"staleness.py: {error}; the same command goes on")
    except ConfigError as error:
        sys.exit(f"staleness.py: {error}")


if __name__ == "__main__":
    main()
