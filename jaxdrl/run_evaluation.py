"""`jaxdrl evaluate`: how good the policy of a run is, in its environment and in others like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxdrl import backend, robustness
from jaxdrl.binding import require_of_run
from jaxdrl.checks import Count, Index, Seed, check_fields, checked
from jaxdrl.console import labelled, make_console
from jaxdrl.envs import Environment
from jaxdrl.evaluation import Evaluation, difference_interval, evaluate
from jaxdrl.experiment import Experiment
from jaxdrl.json_files import write_json
from jaxdrl.keys import make_key, pinned
from jaxdrl.numerals import short
from jaxdrl.robustness import RobustnessMap, Variation, parse_variation, vary
from jaxdrl.run_dir import CHECKPOINTS, read_run, require_writable
from jaxdrl.saving import choose
from jaxdrl.setup import restore
from jaxdrl.sweep_parts import locate
from jaxdrl.terminal import printable
from jaxdrl.types import Network

STREAM = 2
"""Folded into the key of the seed: other episodes than those of a run's own evaluations."""

NUM_BINS = 10
"""Bars of the histogram."""


@dataclass(frozen=True)
class RunEvaluation:
    """What `jaxdrl.evaluate_run` found.

    Attributes:
      env: name of the environment.
      update: that of the checkpoint.
      env_steps: steps that it was trained for.
      greedy: whether the most probable action was taken, or a sample.
      evaluation: the returns, and their mean with its interval.
    """

    env: str
    update: int
    env_steps: int
    greedy: bool
    evaluation: Evaluation

    @property
    def figures(self) -> dict[str, Any]:
        """Everything but the single returns, as JSON has it."""
        found = self.evaluation
        return {
            "env": self.env,
            "update": self.update,
            "env_steps": self.env_steps,
            "greedy": self.greedy,
            "num_episodes": found.num_episodes,
            "mean_return": found.mean_return,
            "ci95_low": found.ci95_low,
            "ci95_high": found.ci95_high,
            "median_return": found.median_return,
            "interquartile_mean": found.interquartile_mean,
            "least_return": float(found.returns.min()),
            "greatest_return": float(found.returns.max()),
            "mean_length": found.mean_length,
            "num_cut": found.num_cut,
        }


@checked
@pinned()
def evaluate_run(
    run_dir: Path | str,
    *,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    num_episodes: Count = 1000,
    greedy: bool = True,
    seed: Seed = 0,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> RunEvaluation:
    """Plays whole episodes with the policy in a checkpoint of a run.

    Args:
      run_dir: directory of the run, which may still go on.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, of a sweep.
      num_episodes: how many.
      greedy: take the most probable action instead of a sample.
      seed: of the episodes.
      env: as in `jaxdrl.restore`, for a run that was given one.
      network: likewise.
      optimizer: likewise.

    Raises:
      ConfigError: if the directory is no run, holds no sound checkpoint, or a number is bad.
    """
    run_dir, member = locate(Path(run_dir), member)
    config = read_run(run_dir, Experiment).experiment.ppo
    given: dict[str, Any] = {"env": env, "network": network, "optimizer": optimizer}
    restored = restore(run_dir, checkpoint=checkpoint, member=member, **given)
    learner = restored.state.learner
    found = evaluate(
        restored.env,
        restored.algorithm.policy,
        learner,
        jax.random.fold_in(make_key(seed), STREAM),
        num_episodes=num_episodes,
        deterministic=greedy,
    )
    update = int(learner.num_updates)
    steps = update * config.env_steps_per_update
    return RunEvaluation(restored.env.name, update, steps, greedy, found)


@checked
@pinned()
def vary_run(
    run_dir: Path | str,
    variations: Sequence[str | Variation],
    *,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    num_episodes: Count = 32,
    greedy: bool = True,
    seed: Seed = 0,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> RobustnessMap:
    """The policy of a run over a grid of its environment's parameters.

    Args:
      run_dir: directory of the run, which may still go on.
      variations: such as `"length=0.25:1.0:16"`, one or more; their product is the grid.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, of a sweep.
      num_episodes: whole episodes in each cell.
      greedy: take the most probable action instead of a sample.
      seed: of the episodes.
      env: as in `jaxdrl.restore`, for a run that was given one.
      network: likewise.
      optimizer: likewise.

    Raises:
      ConfigError: if the directory is no run, or for a variation that the environment cannot have.
    """
    parsed = [parse_variation(v) if isinstance(v, str) else v for v in variations]
    given: dict[str, Any] = {"env": env, "network": network, "optimizer": optimizer}
    restored = restore(run_dir, checkpoint=checkpoint, member=member, **given)
    return vary(
        restored.env,
        restored.algorithm.policy,
        restored.state.learner,
        jax.random.fold_in(make_key(seed), STREAM),
        parsed,
        num_episodes=num_episodes,
        deterministic=greedy,
    )


@dataclass(frozen=True)
class Request:
    """What the command is asked for: the flags of `jaxdrl evaluate`."""

    vary: tuple[str, ...]
    compare: Path | None
    num_episodes: Count | None
    sampled: bool
    checkpoint: int | str | None
    seed: Seed
    json: Path | None
    out: Path | None
    member: Index | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def main(run_dir: Path, request: Request) -> None:
    """Evaluates, prints, and writes the files that were asked for."""
    run_dirs = [run_dir] if request.compare is None else [run_dir, request.compare]
    envs = [read_run(path, Experiment).experiment.env for path in run_dirs]
    out = request.out
    if out is not None:
        robustness.require_drawable(out, len(request.vary))
    if request.json is not None:
        require_writable("json", request.json)
    # The run to compare with is taken by its last checkpoint, and its best member.
    which: list[dict[str, Any]] = [{"checkpoint": request.checkpoint, "member": request.member}, {}]
    for path, chosen in zip(run_dirs, which, strict=False):  # before the first is played
        part, _ = locate(path, chosen.get("member"))
        check = partial(require_of_run, read_run(part, Experiment).content)
        choose(part / CHECKPOINTS, chosen.get("checkpoint"), lambda warning: None, check)
    backend.start(1, 1)
    console = make_console()
    given: dict[str, Any] = {"greedy": not request.sampled, "seed": request.seed}
    if request.num_episodes is not None:
        given["num_episodes"] = request.num_episodes
    content: dict[str, Any] = {}
    if request.vary:
        grids = {}
        for path, env, chosen in zip(run_dirs, envs, which, strict=False):
            title = env if len(run_dirs) == 1 else str(path)
            grid = grids[title] = vary_run(path, request.vary, **chosen, **given)
            console.print(title, style="bold", soft_wrap=True)
            robustness.show(console, grid)
            content[str(path)] = {"env": env, **robustness.figures_of(grid)}
        if out is not None:
            robustness.draw(grids, out)
            console.print(f"picture: {out}", soft_wrap=True)
    else:
        found = []
        for path, chosen in zip(run_dirs, which, strict=False):
            found.append(evaluate_run(path, **chosen, **given))
            returns = found[-1].evaluation.returns
            show(console, found[-1])
            content[str(path)] = {**found[-1].figures, "returns": returns.tolist()}
        if len(found) == 2:
            ours, theirs = (one.evaluation.returns for one in found)
            low, high = difference_interval(ours, theirs)
            gain = short(float(ours.mean() - theirs.mean()))
            words, interval = "the first over the second:", f"{short(low)} to {short(high)}"
            console.print(labelled(f"{words} {gain}", f"(95% interval {interval})", "bold"))
    if request.json is not None:
        request.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(request.json, content if len(run_dirs) == 2 else content[str(run_dir)])


def show(console: Console, found: RunEvaluation) -> None:
    """Prints the figures and a histogram of the returns."""
    figures = found.figures
    how = "greedy" if found.greedy else "sampled"
    console.print(
        f"{printable(found.env)}, after update {found.update} ({found.env_steps:,} steps): "
        f"{found.evaluation.num_episodes:,} whole episodes, {how}"
    )
    table = Table(show_header=False, box=None, pad_edge=False)
    low, high = short(figures["ci95_low"]), short(figures["ci95_high"])
    rows = {
        "mean return": f"{short(figures['mean_return'])} (95% interval {low} to {high})",
        "median": short(figures["median_return"]),
        "mean of the middle half": short(figures["interquartile_mean"]),
        "least and greatest": f"{short(figures['least_return'])} and "
        f"{short(figures['greatest_return'])}",
        "mean length": short(figures["mean_length"]),
    }
    if found.evaluation.num_cut:
        rows["cut before their end"] = f"{found.evaluation.num_cut:,} episodes"
    for name, words in rows.items():
        table.add_row(Text(name, "bold"), words)
    console.print(table)
    for line in histogram(found.evaluation.returns):
        console.print(line)


def histogram(returns: np.ndarray, width: int = 40) -> list[str]:
    """Bars of equal bins of the returns, a line each; one where all are equal."""
    if returns.min() == returns.max():
        return [f"every return is {short(float(returns[0]))}"]
    counts, edges = np.histogram(returns, bins=NUM_BINS)
    labels = [
        f"{short(a)} to {short(b)}" for a, b in zip(edges[:-1].tolist(), edges[1:], strict=True)
    ]
    margin = max(map(len, labels))
    return [
        f"{label:>{margin}}  {'█' * round(width * count / counts.max())} {count}".rstrip()
        for label, count in zip(labels, counts.tolist(), strict=True)
    ]
