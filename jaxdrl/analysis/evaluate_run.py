"""`jaxdrl evaluate`: evaluates the policy of a run, in its environment and in variations of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn
from rich.console import Console

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.analysis import evaluation_report, robustness_map
from jaxdrl.checks import EpisodeCount, Index, Seed, check_fields, checked
from jaxdrl.core.keys import make_key, pinned
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment
from jaxdrl.evaluation import parameter_grid
from jaxdrl.evaluation.episodes import Evaluation, difference_interval, evaluate
from jaxdrl.evaluation.parameter_grid import RobustnessMap, Variation, parse_variation, vary
from jaxdrl.io.console import labelled, make_console
from jaxdrl.io.json_files import write_json
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import printable
from jaxdrl.runs import backend
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player, player_names, require_checkpoint
from jaxdrl.runs.run_dir import require_writable
from jaxdrl.runs.sweep_members import Member

STREAM = 2
"""Folded into the key of the seed, so that episodes differ from those of a run's evaluations."""


@dataclass(frozen=True)
class RunEvaluation:
    """The result of `jaxdrl.evaluate_run`.

    Attributes:
      env: name of the environment.
      update: update of the checkpoint.
      env_steps: number of environment steps that the policy was trained for.
      greedy: whether it was a greedy evaluation or a sampled one.
      evaluation: the returns, and their mean with its interval.
      member: the member that was evaluated, if the run is a sweep.
    """

    env: str
    update: int
    env_steps: int
    greedy: bool
    evaluation: Evaluation
    member: Member | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """Everything except the single returns, as an object for JSON."""
        found = self.evaluation
        return {
            **({} if self.member is None else self.member.figures),
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
            "min_return": float(found.returns.min()),
            "max_return": float(found.returns.max()),
            "mean_length": found.mean_length,
            "num_cut": found.num_cut,
        }


@checked
def evaluate_run(
    run_dir: Path | str,
    *,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
    num_episodes: EpisodeCount = 1000,
    greedy: bool = True,
    seed: Seed = 0,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
) -> RunEvaluation:
    """Plays whole episodes with the policy in a checkpoint of a run.

    Args:
      run_dir: directory of the run, which may still be running.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, for a sweep.
      setting: likewise.
      num_episodes: number of episodes.
      greedy: whether to take the most probable action or a sample.
      seed: seed of the episodes.
      env: as in `jaxdrl.restore`, for a run with an environment given in Python.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.

    Raises:
      ConfigError: if the directory is not a run or has no valid checkpoint, or if an argument is
        invalid.
    """
    which: dict[str, Any] = {"checkpoint": checkpoint, "member": member, "setting": setting}
    player = load_player(
        run_dir, Overrides(env, network, optimizer, make_algorithm), "evaluate_run", **which
    )
    return evaluate_player(player, num_episodes, greedy, seed)


@pinned()
def evaluate_player(player: Player, num_episodes: int, greedy: bool, seed: int) -> RunEvaluation:
    """As `evaluate_run`, for a policy that is already loaded."""
    found = evaluate(
        player.env,
        player.policy,
        player.learner,
        jax.random.fold_in(make_key(seed), STREAM),
        num_episodes=num_episodes,
        deterministic=greedy,
    )
    return RunEvaluation(
        env=player.env.name,
        update=player.update,
        env_steps=player.env_steps,
        greedy=greedy,
        evaluation=found,
        member=player.member,
    )


@checked
def vary_run(
    run_dir: Path | str,
    variations: Sequence[str | Variation],
    *,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
    num_episodes: EpisodeCount = 32,
    greedy: bool = True,
    seed: Seed = 0,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
) -> RobustnessMap:
    """Evaluates the policy of a run over a grid of its environment's parameters.

    Args:
      run_dir: directory of the run, which may still be running.
      variations: one or more, such as `"length=0.25:1.0:16"`; their product is the grid.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, for a sweep.
      setting: likewise.
      num_episodes: number of whole episodes in each cell.
      greedy: whether to take the most probable action or a sample.
      seed: seed of the episodes.
      env: as in `jaxdrl.restore`, for a run with an environment given in Python.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.

    Raises:
      ConfigError: if the directory is not a run, or for an impossible variation.
    """
    which: dict[str, Any] = {"checkpoint": checkpoint, "member": member, "setting": setting}
    parsed = [parse_variation(v) if isinstance(v, str) else v for v in variations]
    player = load_player(
        run_dir, Overrides(env, network, optimizer, make_algorithm), "vary_run", **which
    )
    return vary_player(player, parsed, num_episodes, greedy, seed)


@pinned()
def vary_player(
    player: Player, variations: Sequence[Variation], num_episodes: int, greedy: bool, seed: int
) -> RobustnessMap:
    """As `vary_run`, for a policy that is already loaded."""
    return vary(
        player.env,
        player.policy,
        player.learner,
        jax.random.fold_in(make_key(seed), STREAM),
        variations,
        num_episodes=num_episodes,
        deterministic=greedy,
    )


@dataclass(frozen=True)
class Request:
    """The flags of `jaxdrl evaluate`."""

    vary: tuple[str, ...]
    compare: Path | None
    num_episodes: EpisodeCount | None
    sampled: bool
    checkpoint: int | str | None
    seed: Seed
    json: Path | None
    out: Path | None
    member: Index | None = None
    setting: Index | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def main(run_dir: Path, request: Request) -> None:
    """Evaluates, prints, and writes the requested files."""
    if request.out is not None:
        robustness_map.require_drawable(request.out, len(request.vary))
    if request.json is not None:
        require_writable("json", request.json)
    variations = [parse_variation(text) for text in request.vary]
    num_episodes = request.num_episodes or (32 if request.vary else 1000)
    if variations:
        parameter_grid.require_grid(variations, num_episodes)
    which = [(run_dir, request.checkpoint, request.member, request.setting)]
    if request.compare is not None:  # with its last checkpoint and best member
        which.append((request.compare, None, None, None))
    for one in which:  # before the backend starts
        require_checkpoint(*one)
    backend.start(1, 1)
    console = make_console()
    players = [load_player(one[0], Overrides(), "evaluate_run", *one[1:]) for one in which]
    names = player_names(players)
    act = partial(_vary, variations) if variations else _evaluate
    contents = act(console, players, names, request, num_episodes)
    if request.json is not None:
        request.json.parent.mkdir(parents=True, exist_ok=True)
        both = dict(zip(names, contents, strict=True))
        write_json(request.json, both if len(contents) == 2 else contents[0])


def _vary(
    variations: list[Variation],
    console: Console,
    players: list[Player],
    names: list[str],
    request: Request,
    num_episodes: int,
) -> list[dict[str, Any]]:
    """Prints and draws maps of one or two policies; returns an object for JSON for each."""
    titles = names if len(players) == 2 else [players[0].env.name]
    how = num_episodes, not request.sampled, request.seed
    contents, grids = [], {}
    for player, title in zip(players, titles, strict=True):
        grid = grids[title] = vary_player(player, variations, *how)
        console.print(title, style="bold", soft_wrap=True)
        if player.member is not None:
            console.print(str(player.member), soft_wrap=True)
        robustness_map.show(console, grid)
        env, figures = player.env.name, parameter_grid.figures_of(grid)
        contents.append({**player.origin, "update": player.update, "env": env, **figures})
    if request.out is not None:
        robustness_map.draw(grids, request.out)
        console.print(f"picture: {request.out}", soft_wrap=True)
    return contents


def _evaluate(
    console: Console, players: list[Player], names: list[str], request: Request, num_episodes: int
) -> list[dict[str, Any]]:
    """Prints the evaluation of one or two policies; returns an object for JSON for each."""
    found = []
    for player, name in zip(players, names, strict=True):
        if len(players) == 2:
            console.print(name, style="bold", soft_wrap=True)
        found.append(evaluate_player(player, num_episodes, not request.sampled, request.seed))
        _show(console, found[-1])
    if len(found) == 2:
        first, second = (one.evaluation.returns for one in found)
        low, high = difference_interval(first, second)
        gain = short(float(first.mean() - second.mean()))
        words, interval = "first minus second:", f"{short(low)} to {short(high)}"
        console.print(labelled(f"{words} {gain}", f"(95% interval {interval})", "bold"))
    return [{**one.figures, "returns": one.evaluation.returns.tolist()} for one in found]


def _show(console: Console, found: RunEvaluation) -> None:
    how = "greedy" if found.greedy else "sampled"
    console.print(
        f"{printable(found.env)}, after update {found.update} ({found.env_steps:,} steps): "
        f"{found.evaluation.num_episodes:,} whole episodes, {how}"
    )
    if found.member is not None:
        console.print(str(found.member), soft_wrap=True)
    evaluation_report.show(console, found.evaluation)
