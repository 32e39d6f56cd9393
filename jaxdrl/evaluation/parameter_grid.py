"""Evaluates a policy over a grid of environment parameters: `jaxdrl evaluate RUN_DIR --vary`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.annotations import Bounds
from jaxdrl.checks import EpisodeCount, check_fields, checked, require, require_range
from jaxdrl.core.programs import program
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.protocol import Environment, replace_params
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episode_loop import STATIC, player_of, rules_of, run_episodes
from jaxdrl.evaluation.episodes import DEFAULT_MAX_STEPS, bootstrap_interval

MAX_EPISODES = 1_000_000
"""The most episodes over all cells, which are played in parallel."""

TIME_LIMIT = "max_steps_in_episode"
"""The gymnax parameter that limits the length of an episode."""


@dataclass(frozen=True)
class Variation:
    """One parameter from `low` to `high` in `num` equal steps.

    Raises:
      ConfigError: unless `num` is at least 2 and `low` less than `high`, both finite.
    """

    name: str
    low: float
    high: float
    num: Annotated[int, Bounds(2)]

    def __post_init__(self) -> None:
        check_fields(self, "vary.")
        require_range(f"vary.{self.name}", self.low, self.high)

    @property
    def values(self) -> np.ndarray:
        """The values, float64 `[num]`."""
        return np.linspace(self.low, self.high, self.num)


def parse_variation(text: str) -> Variation:
    """A variation from `NAME=LOW:HIGH:NUM`.

    >>> parse_variation("length=0.25:1.0:4").values.tolist()
    [0.25, 0.5, 0.75, 1.0]
    """
    name, _, numbers = text.partition("=")
    try:
        low, high, num = numbers.split(":")
        return Variation(name, float(low), float(high), int(num))
    except ValueError as error:
        raise ConfigError(
            f"vary = {text!r}: must be NAME=LOW:HIGH:NUM, such as length=0.25:1.0:16"
        ) from error


@dataclass(frozen=True)
class RobustnessMap:
    """Returns over a grid, whose axes are the variations in their order.

    Attributes:
      variations: the parameters that were varied.
      num_episodes: number of episodes in each cell.
      mean_return: mean return of each cell, `[num of each variation]`.
      ci95_low: lower ends of the 95% bootstrap intervals of the means.
      ci95_high: upper ends of those intervals.
    """

    variations: tuple[Variation, ...]
    num_episodes: int
    mean_return: np.ndarray
    ci95_low: np.ndarray
    ci95_high: np.ndarray

    def worst(self, num: int = 3) -> list[tuple[dict[str, float], float]]:
        """The `num` worst cells: their parameters and mean returns."""
        order = np.argsort(self.mean_return, axis=None, kind="stable")[:num]
        cells = [np.unravel_index(i, self.mean_return.shape) for i in order]
        return [
            (
                {v.name: float(v.values[i]) for v, i in zip(self.variations, cell, strict=True)},
                float(self.mean_return[cell]),
            )
            for cell in cells
        ]


@checked
def vary(
    env: Environment,
    policy: Policy,
    learner: LearnerState,
    key: jax.Array,
    variations: Sequence[Variation],
    *,
    num_episodes: EpisodeCount = 32,
    greedy: bool = True,
) -> RobustnessMap:
    """Evaluates a policy in every cell of a grid of parameters, all cells in one call.

    A cell equals `jaxdrl.evaluate` in the environment with the cell's parameters and the key
    `fold_in(key, index of the cell)`. Parameters derived from others are recomputed.

    Args:
      env: the environment.
      policy: `algorithm.policy`.
      learner: `state.learner`.
      key: PRNG key, consumed.
      variations: one or more, of different parameters; their product is the grid.
      num_episodes: number of whole episodes in each cell.
      greedy: as in `jaxdrl.evaluate`.

    Raises:
      ConfigError: for a parameter that the environment does not have, or that is not a number; and
        for an environment of the host.
    """
    if env.host is not None:
        raise ConfigError(
            f"vary: {env.name} runs on the host, where parameters cannot vary within a program; "
            "evaluate the policy in one environment after another, each made with other parameters"
        )
    require_grid(variations, num_episodes)
    params, num_cells = _params_of_cells(env, variations)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, np.arange(num_cells))
    limit = env.max_episode_steps or DEFAULT_MAX_STEPS
    limits = [round(v.high) for v in variations if v.name == TIME_LIMIT]
    returns, *_ = jax.device_get(
        program(_run_cells, STATIC, rules_of(env), player_of(env, policy))(
            params,
            learner,
            keys,
            num_episodes=num_episodes,
            max_episode_steps=max([limit, *limits]),
            greedy=greedy,
        )
    )
    shape = tuple(v.num for v in variations)
    intervals = np.array([bootstrap_interval(cell) for cell in returns])
    return RobustnessMap(
        variations=tuple(variations),
        num_episodes=num_episodes,
        mean_return=returns.mean(axis=1, dtype=np.float64).reshape(shape),
        ci95_low=intervals[:, 0].reshape(shape),
        ci95_high=intervals[:, 1].reshape(shape),
    )


def require_grid(variations: Sequence[Variation], num_episodes: int) -> None:
    """Raises `ConfigError` if the variations do not make a grid, or one with too many episodes."""
    names = [v.name for v in variations]
    require(len(names) > 0, "vary", names, "must name at least one parameter")
    require(len(set(names)) == len(names), "vary", names, "must name different parameters")
    num_cells = math.prod(v.num for v in variations)
    most = MAX_EPISODES // num_episodes
    works = f"must be at most {most:,} with {num_episodes} episodes in each"
    require(num_cells <= most, "vary", f"{num_cells:,} cells", works)


def _params_of_cells(env: Environment, variations: Sequence[Variation]) -> tuple[Any, int]:
    """`(parameters of the environment, [cells, ...]; number of cells)`."""
    names = [v.name for v in variations]
    grid = itertools.product(*(v.values.tolist() for v in variations))
    cells = [replace_params(env, dict(zip(names, values, strict=True))) for values in grid]
    params = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *cells)
    return params, len(cells)


def _run_cells(
    rules: Any, policy: Policy, params: Any, learner: LearnerState, keys: jax.Array, **counts: Any
) -> Any:
    """`run_episodes` in every cell, with `params [cells, ...]` and `keys [cells]`."""

    def one_cell(params: Any, key: jax.Array) -> Any:
        return run_episodes(rules, policy, params, learner, key, **counts)

    return jax.vmap(one_cell)(params, keys)


def figures_of(found: RobustnessMap) -> dict[str, Any]:
    """The map as an object for JSON."""
    return {
        "vary": {v.name: v.values.tolist() for v in found.variations},
        "num_episodes": found.num_episodes,
        "mean_return": found.mean_return.tolist(),
        "ci95_low": found.ci95_low.tolist(),
        "ci95_high": found.ci95_high.tolist(),
    }
