"""Evaluates the policy of a run, in its environment and in variations of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import linen as nn

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.checks import EpisodeCount, Index, Seed, checked
from jaxdrl.core.keys import make_key, pinned
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment
from jaxdrl.evaluation.episodes import Evaluation, evaluate
from jaxdrl.evaluation.parameter_grid import RobustnessMap, Variation, parse_variation, vary
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player
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
      opponents: "random" where agents compete, and uniformly random players had all seats but that
        of the policy.
    """

    env: str
    update: int
    env_steps: int
    greedy: bool
    evaluation: Evaluation
    member: Member | None = None
    opponents: Literal["random"] | None = None

    @property
    def agent_mean_returns(self) -> list[float] | None:
        """The mean return of each agent; None of a single one, and where agents compete."""
        returns = self.evaluation.agent_returns
        if returns is None or self.opponents is not None:
            return None
        return returns.mean(axis=0, dtype=np.float64).tolist()

    @property
    def figures(self) -> dict[str, Any]:
        """Everything except the single returns, as an object for JSON."""
        found, of_agents = self.evaluation, self.agent_mean_returns
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
            **({} if of_agents is None else {"agent_mean_returns": of_agents}),
            **({} if self.opponents is None else {"opponents": self.opponents}),
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
        greedy=greedy,
    )
    return RunEvaluation(
        env=player.env.name,
        update=player.update,
        env_steps=player.env_steps,
        greedy=greedy,
        evaluation=found,
        member=player.member,
        opponents="random" if player.env.is_competitive else None,
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
        greedy=greedy,
    )
