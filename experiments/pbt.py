"""Population-based training against random search, of as many environment steps.

Every repetition trains the same members, with the same settings at the start, three times: left
alone with a constant learning rate, left alone with one that falls to 0, and as a population that
exchanges. The best member is chosen by one set of episodes and judged by another. Can be stopped
at any time and goes on where it was.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxdrl
from jaxdrl import ConfigError, Experiment, Sweep, make_experiment
from jaxdrl.analysis.figures import COLOURS, count_axis, legend_beside, picture
from jaxdrl.evaluation.episodes import bootstrap_interval
from jaxdrl.io.json_files import write_json
from jaxdrl.runs.machine import versions
from jaxdrl.runs.run_dir import CHECKPOINTS, METRICS_FILE
from jaxdrl.runs.stopping import RunInterruptedError

ARMS = {
    "random": "random search",
    "annealed": "random search, rate falls to 0",
    "pbt": "population-based training",
}
BEGIN = 0.2
"""Share of the steps that the curves in the picture leave out."""
CURVE_POINTS = 40


@dataclass(frozen=True)
class Comparison:
    """What is trained, how often, and where the figures go."""

    env: str = "Pendulum-v1"
    """Environment."""
    learning_rate: str = "log:1e-5:3e-2"
    """Range of the learning rates."""
    members: int = 16
    """Members of a repetition."""
    num_envs: int = 16
    """Environments of a member."""
    env_steps: int = 3_000_000
    """Environment steps of a repetition over all members."""
    every: int = 10
    """Updates between exchanges."""
    repetitions: int = 8
    """Seeds, from 0 on."""
    num_episodes: int = 1024
    """Episodes that judge the best member."""
    results: Path = Path(__file__).parent / "results"
    """Directory of pbt.json and pbt.png."""
    runs: Path = Path("runs/pbt")
    """Directory of the run directories."""

    def settings(self) -> dict[str, Any]:
        """What decides the figures."""
        return {
            k: v for k, v in asdict(self).items() if k not in ("repetitions", "results", "runs")
        }


def experiment_of(config: Comparison, arm: str, seed: int) -> Experiment:
    """What one arm trains in one repetition."""
    ranges, is_pbt = {"learning_rate": config.learning_rate}, arm == "pbt"
    return make_experiment(
        config.env,
        num_envs=config.num_envs,
        num_steps=64,
        num_minibatches=4,
        seed=seed,
        total_env_steps=config.env_steps // config.members,
        anneal_learning_rate=arm == "annealed",
        num_eval_episodes=128,
        sweep=Sweep(ranges, members=config.members, pbt=is_pbt, pbt_every=config.every),
        run_dir=config.runs / f"{config.env}-{arm}-{seed}".replace("/", "-"),
    )


def measure(config: Comparison, arm: str, seed: int) -> dict[str, Any]:
    """Trains, or goes on, and judges the best member by episodes that did not choose it."""
    experiment = experiment_of(config, arm, seed)
    run_dir = experiment.run_dir
    assert run_dir is not None
    is_begun = (run_dir / CHECKPOINTS).exists()
    run = jaxdrl.resume(run_dir) if is_begun else jaxdrl.run(experiment)
    means = np.array([found.mean_return for found in run.evaluation.members])
    best = int(means.argmax())
    state: Any = run.state
    judged = jaxdrl.evaluate(
        run.env,
        run.algorithm.policy,
        jaxdrl.member(state, best).learner,
        jax.random.fold_in(jax.random.key(seed), 1),
        num_episodes=config.num_episodes,
    )
    jax.clear_caches()
    return {
        "arm": arm,
        "seed": seed,
        "best": judged.mean_return,
        "median_member": float(np.median(means)),
        "learning_rate": float(state.hyperparams["learning_rate"][best]),
        "env_steps": int(run.result["env_steps"]) * config.members,
        "curve": curve(run_dir / METRICS_FILE, config.members),
    }


def curve(metrics_file: Path, num_members: int) -> dict[str, list[float]]:
    """Steps of all members, and the mean training return of the best member in each part."""
    lines = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    found: dict[str, list[float]] = {"env_steps": [], "best": []}
    for part in np.array_split(np.arange(len(lines)), min(CURVE_POINTS, len(lines))):
        of_members = [lines[i]["members/episode_return"] for i in part]
        returns = np.array([[np.nan if x is None else x for x in row] for row in of_members])
        seen = ~np.isnan(returns).all(axis=0)
        if seen.any():
            found["env_steps"].append(lines[part[-1]]["env_steps"] * num_members)
            found["best"].append(float(np.nanmean(returns[:, seen], axis=0).max()))
    return found


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and 95% interval over the repetitions, and the same of what PBT gains in each."""
    of_arm = {arm: {r["seed"]: r["best"] for r in rows if r["arm"] == arm} for arm in ARMS}
    summary: dict[str, Any] = {}
    for arm, by_seed in of_arm.items():
        values = np.array(list(by_seed.values()))
        gains = np.array([of_arm["pbt"][s] - x for s, x in by_seed.items() if s in of_arm["pbt"]])
        for name, found in (("best", values), ("gain_of_pbt", gains)):
            if len(found) and (arm, name) != ("pbt", "gain_of_pbt"):
                mean, interval = float(found.mean()), bootstrap_interval(found)
                summary.setdefault(arm, {})[name] = {"mean": mean, "ci95": interval}
    return summary


def write(config: Comparison, rows: list[dict[str, Any]]) -> None:
    """The figures and the picture."""
    config.results.mkdir(parents=True, exist_ok=True)
    found = {
        "settings": config.settings(),
        "versions": versions(),
        "summary": summarise(rows),
        "rows": rows,
    }
    write_json(config.results / "pbt.json", found)
    draw(config, rows, config.results / "pbt.png")


def draw(config: Comparison, rows: list[dict[str, Any]], out: Path) -> None:
    """Curves of the best member, mean and range, and the judged return of each repetition."""
    with picture(out, 9.0, 4.0) as figure:
        curves, finals = figure.subplots(1, 2, width_ratios=(3, 2))
        for i, (arm, label) in enumerate(ARMS.items()):
            own = [row for row in rows if row["arm"] == arm and row["curve"]["env_steps"]]
            if own:
                draw_curves(curves, own, label, COLOURS[i])
                draw_finals(finals, i, np.array([row["best"] for row in own]))
        steps = "environment steps of all members"
        count_axis(curves.xaxis, f"{steps} (without the first {BEGIN:.0%})")
        curves.set_ylabel("training return of the best member")
        finals.set_xticks(range(len(ARMS)), ["random", "random,\nannealed", "PBT"])
        finals.set_ylabel("return of the best member, judged anew")
        repetitions = len({row["seed"] for row in rows})
        figure.suptitle(f"{config.env}, {config.members} members, {repetitions} seeds")
        curves.set_title("mean and range over the seeds", fontsize=9)
        finals.set_title("each seed, their mean and its 95% interval", fontsize=9)
        legend_beside(figure)


def draw_curves(axes: Any, own: list[dict[str, Any]], label: str, colour: str) -> None:
    """Mean and range without the start, beside which the differences would not be seen."""
    length = min(len(row["curve"]["env_steps"]) for row in own)
    steps = np.array(own[0]["curve"]["env_steps"][-length:])
    values = np.array([row["curve"]["best"][-length:] for row in own])
    late = steps >= BEGIN * steps[-1]
    low, high = values.min(axis=0), values.max(axis=0)
    axes.plot(steps[late], values.mean(axis=0)[late], label=label, color=colour)
    axes.fill_between(steps[late], low[late], high[late], color=colour, alpha=0.15, linewidth=0)


def draw_finals(axes: Any, place: int, best: np.ndarray) -> None:
    """A dot for each repetition, beside their mean with its interval."""
    mean, (low, high) = best.mean(), bootstrap_interval(best)
    jitter = np.linspace(-0.12, 0.12, len(best)) if len(best) > 1 else np.zeros(1)
    axes.plot(place + jitter, best, "o", color=COLOURS[place], alpha=0.5)
    axes.errorbar(place + 0.25, mean, [[mean - low], [high - mean]], fmt="_", color="black")


def load(config: Comparison) -> list[dict[str, Any]]:
    """What was measured with these settings before."""
    path = config.results / "pbt.json"
    if not path.exists():
        return []
    stored = json.loads(path.read_text())
    return stored["rows"] if stored["settings"] == config.settings() else []


def compare(config: Comparison, console: Console) -> None:
    """Fills what is missing, repetition by repetition."""
    rows = load(config)
    for seed in range(config.repetitions):
        for arm in ARMS:
            if any((row["arm"], row["seed"]) == (arm, seed) for row in rows):
                continue
            console.rule(f"{ARMS[arm]}, seed {seed}")
            rows.append(measure(config, arm, seed))
            write(config, rows)
    table = Table("", "best member", "95% interval", "PBT gains", "95% interval", box=None)
    for arm, found in summarise(rows).items():
        cells = [ARMS[arm]]
        for part in (found[name] for name in ("best", "gain_of_pbt") if name in found):
            cells += [f"{part['mean']:.4g}", "{:.4g} to {:.4g}".format(*part["ci95"])]
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    """Runs what the command line says."""
    config = tyro.cli(Comparison, description=__doc__)
    try:
        compare(config, Console(highlight=False))
    except RunInterruptedError as error:
        sys.exit(f"pbt.py: {error}; the same command goes on")
    except ConfigError as error:
        sys.exit(f"pbt.py: {error}")


if __name__ == "__main__":
    main()
