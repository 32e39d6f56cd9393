"""Evaluates a policy over whole episodes, each counted once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxdrl.checks import Count, EpisodeCount, checked
from jaxdrl.core.programs import program
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.protocol import Environment
from jaxdrl.evaluation.episode_loop import STATIC, player_of, rules_of, run_episodes
from jaxdrl.evaluation.host_episodes import play_on_host

DEFAULT_MAX_STEPS = 10_000
"""The step limit of an evaluation if the environment has none."""

MAX_DRAWS = 2**22
"""How many numbers a bootstrap draws at once, so that its memory stays bounded."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation over whole episodes.

    Attributes:
      num_episodes: number of episodes.
      mean_return: mean undiscounted return.
      ci95_low: lower end of the 95% bootstrap interval of the mean.
      ci95_high: upper end of that interval.
      mean_length: mean number of steps.
      num_cut: number of episodes still running when they reached the step limit of the evaluation.
      returns: float32 `[num_episodes]`.
      lengths: int32 `[num_episodes]`.
      members: the evaluations of all members of a population; this one is then the best of them.
      agent_returns: return of each agent, float32 `[num_episodes, A]`, whose mean over agents is in
        `returns`, or, where agents compete, that of the agent which the policy played. None for
        an environment of one agent.
    """

    num_episodes: int
    mean_return: float
    ci95_low: float
    ci95_high: float
    mean_length: float
    num_cut: int
    returns: np.ndarray = field(repr=False)
    lengths: np.ndarray = field(repr=False)
    members: tuple[Evaluation, ...] = field(default=(), repr=False)
    agent_returns: np.ndarray | None = field(default=None, repr=False)

    @property
    def median_return(self) -> float:
        """Median of the returns."""
        return float(np.median(self.returns))

    @property
    def interquartile_mean(self) -> float:
        """Mean of the middle half of the returns."""
        return interquartile_mean(self.returns)


@checked
def evaluate(
    env: Environment,
    policy: Policy,
    learner: LearnerState,
    key: jax.Array,
    *,
    num_episodes: EpisodeCount,
    max_episode_steps: Count | None = None,
    greedy: bool = True,
) -> Evaluation:
    """Plays `num_episodes` whole episodes in parallel and counts each once.

    The episodes are chosen beforehand, so that short ones are not counted more often than long
    ones. The evaluation runs on one device, so its result does not depend on the mesh, and compiles
    once for the same `env`, `policy` and counts. Of an environment of the host at most 64 copies
    play at once. The return of several agents is the mean over them; where they compete
    (`Environment.is_competitive`), the policy plays at one seat, another one in each episode, and
    random players at all others.

    Args:
      env: the environment.
      policy: `algorithm.policy`.
      learner: `state.learner`.
      key: PRNG key, consumed.
      num_episodes: number of episodes, at least 1.
      max_episode_steps: the step limit at which episodes are cut; None takes the environment's own
        limit, or 10,000 if it has none.
      greedy: True for greedy evaluation (actions are the mode of the distribution), False
        for sampled evaluation.

    Raises:
      ConfigError: if a count is not an integer of at least 1.
    """
    if max_episode_steps is None:
        max_episode_steps = env.max_episode_steps or DEFAULT_MAX_STEPS
    run: Any = partial(play_on_host, env, policy)
    if env.host is None:
        run = program(run_episodes, STATIC, rules_of(env), player_of(env, policy))
        run = partial(run, env.default_params)
    played = run(
        *jax.device_put((learner, key), first_device(learner)),
        num_episodes=num_episodes,
        max_episode_steps=max_episode_steps,
        greedy=greedy,
    )
    return summarise(*jax.device_get(played))


def summarise(
    returns: np.ndarray, lengths: np.ndarray, ended: np.ndarray, agent_returns: Any = ()
) -> Evaluation:
    """The evaluation of episodes `[n]`; those that have not `ended` were cut by the step limit."""
    low, high = bootstrap_interval(returns)
    return Evaluation(
        num_episodes=len(returns),
        mean_return=float(returns.mean(dtype=np.float64)),
        ci95_low=low,
        ci95_high=high,
        mean_length=float(lengths.mean(dtype=np.float64)),
        num_cut=int((~ended).sum()),
        returns=returns,
        lengths=lengths,
        agent_returns=None if isinstance(agent_returns, tuple) else agent_returns,
    )


def best_of(returns: Sequence[float | None]) -> int | None:
    """The index of the greatest return, the first of equals; None if none of them is finite.

    A number that is not finite is None in JSON.
    """
    finite = {i: x for i, x in enumerate(returns) if x is not None and math.isfinite(x)}
    return max(finite, key=lambda i: finite[i]) if finite else None


def first_device(learner: LearnerState) -> jax.Device:
    """The first of the devices that hold the learner, or JAX's first if it is on the host."""
    arrays = [leaf for leaf in jax.tree.leaves(learner.params) if isinstance(leaf, jax.Array)]
    devices = arrays[0].devices() if arrays else jax.local_devices()
    return min(devices, key=lambda device: device.id)


def bootstrap_interval(
    samples: np.ndarray, *, num_resamples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of the mean of `samples [n]` by the percentile bootstrap.

    Both ends are NaN if a sample is not finite.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if not np.isfinite(samples).all():
        return math.nan, math.nan
    means = _resampled_means(samples, num_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def difference_interval(
    first: np.ndarray, second: np.ndarray, *, num_resamples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """The same for the difference of the means of two independent samples, `[n]` and `[m]`."""
    rng = np.random.default_rng(seed)
    gains = _resampled_means(first, num_resamples, rng) - _resampled_means(
        second, num_resamples, rng
    )
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def _resampled_means(
    samples: np.ndarray, num_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means `[num_resamples]` of bootstrap samples, each as large as `samples`."""
    samples, num = np.asarray(samples, np.float64), len(samples)
    at_once = max(1, MAX_DRAWS // num)  # the draws do not depend on how they are split
    parts = [min(at_once, num_resamples - i) for i in range(0, num_resamples, at_once)]
    return np.concatenate(
        [samples[rng.integers(num, size=(part, num))].mean(axis=1) for part in parts]
    )


def interquartile_mean(samples: np.ndarray) -> float:
    """Mean of the middle half of `samples [n]`; samples at its ends count in part.

    Source: Agarwal et al. 2021, arXiv:2108.13264.
    """
    ordered = np.sort(np.asarray(samples, np.float64))
    n = len(ordered)
    edges = np.arange(n + 1) / n
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return float((weights * ordered).sum() / weights.sum())
