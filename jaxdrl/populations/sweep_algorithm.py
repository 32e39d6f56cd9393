"""A sweep as an `Algorithm` that a run can train, with its hyperparameters bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdrl.algorithms.build import build
from jaxdrl.checks import require
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import hyperparameters, value_of, with_settings
from jaxdrl.core.programs import program
from jaxdrl.core.types import Algorithm, LearnerState, Policy, Reduction
from jaxdrl.distributed.spread import everywhere
from jaxdrl.envs import Environment
from jaxdrl.evaluation.episode_loop import STATIC, Rules, player_of, rules_of, run_episodes
from jaxdrl.evaluation.episodes import DEFAULT_MAX_STEPS, Evaluation, best_of, summarise
from jaxdrl.populations import members
from jaxdrl.populations.pbt import Exchange
from jaxdrl.populations.state import PopulationLearner, PopulationState

PREFIX = "members/"
"""Prefix of metrics that are arrays `[P]`, one number for each member."""


def agent_settings(experiment: Experiment) -> Any:
    """The settings of a sweep that `make_population` reads, as JSON: the same for all waves."""
    sweep = experiment.sweep
    if sweep is None:
        return None
    names = ("ranges", "pbt_every", "pbt_fraction", "pbt_factor", "pbt_resample")
    return [getattr(sweep, name) for name in names] if sweep.pbt else "no exchange"


def make_population(
    env: Environment, experiment: Experiment, mesh: Mesh | None, **parts: Any
) -> Algorithm:
    """A population for members of `experiment.sweep`, as `jaxdrl.population` gives it.

    Args:
      env: the environment.
      experiment: an experiment with a sweep.
      mesh: as in `jaxdrl.population`.
      **parts: further arguments of `build`.

    Raises:
      ConfigError: for an exchange between members whose agents play against each other.
    """
    sweep = experiment.sweep
    assert sweep is not None
    works = (
        f"it ranks members by the return of their own episodes, and the agents of {env.name} play "
        "against each other, so that one wins what another loses; what works: no pbt, where "
        "members are ranked by their returns against random players"
    )
    require(not (sweep.pbt and env.is_competitive), "sweep.pbt", True, works)

    def of_member(hyperparams: Any) -> Algorithm:
        config = with_settings(experiment.algorithm, **hyperparams)
        return build(env, config, mesh=mesh, **parts)

    exchange = None
    if sweep.pbt:
        exchange = Exchange(
            sweep.parsed(),
            every=sweep.pbt_every,
            fraction=sweep.pbt_fraction,
            factor=sweep.pbt_factor,
            resample=sweep.pbt_resample,
        )
    in_turn = experiment.algorithm.execution.reproducible or None
    return members.population(of_member, mesh=mesh, one_by_one=in_turn, exchange=exchange)


def of_experiment(agent: Algorithm, experiment: Experiment, mesh: Mesh | None = None) -> Algorithm:
    """Binds the hyperparameters of `experiment.sweep` to `agent`, whose `init` then takes a key.

    Its metrics are scalars over all members, and arrays `[P]` named `members/...`.

    Args:
      agent: from `make_population`.
      experiment: an experiment with a sweep.
      mesh: that the agent is on. Where it spans processes, each of them gets all metrics.

    Raises:
      ConfigError: for a setting of the experiment, or a value in a range, that a sweep cannot have.
    """
    sweep = experiment.sweep
    assert sweep is not None
    check(experiment)
    values, numbers = hyperparams_of(experiment), sweep.numbers

    def learn(learner: PopulationLearner, trajectory: Any) -> tuple[PopulationLearner, Any]:
        learner, metrics = agent.learn(learner, trajectory)
        hyperparams, metrics = everywhere((learner.hyperparams, metrics), mesh)
        return learner, for_host(hyperparams, metrics, agent.metrics)

    def init_wave(key: jax.Array) -> PopulationState:
        keys = jax.random.split(key, sweep.members * sweep.seeds)
        return agent.init(keys[numbers.start : numbers.stop], values)

    whole = partial(agent.init, hyperparams=values)
    return agent._replace(
        init=whole if sweep.wave is None else init_wave,
        learn=learn,
        train_step=members.train_step(agent.rollout, learn),
    )


def check(experiment: Experiment) -> None:
    """Refuses settings that a sweep cannot have.

    Raises:
      ConfigError: naming the field.
    """
    assert experiment.sweep is not None
    works = "is for a run of one agent, such as that of `jaxdrl train --config RUN_DIR/best.json`"
    require(not experiment.debug_nans, "debug_nans", True, works)
    require(experiment.from_run is None, "from", str(experiment.from_run), works)
    for name, range_ in experiment.sweep.parsed().items():
        for end in (range_.low, range_.high):
            values: dict[str, Any] = {name: end}
            with_settings(experiment.algorithm, **values)


def hyperparams_of(experiment: Experiment) -> dict[str, np.ndarray]:
    """Hyperparameters of every member, `[P]`; where only seeds vary, one that all of them share."""
    sweep = experiment.sweep
    assert sweep is not None
    if values := sweep.values(experiment.seed):
        return values
    known = hyperparameters(experiment.algorithm)
    works = "where only seeds vary, an algorithm must have a hyperparameter that all members share"
    require(bool(known), "sweep.seeds", sweep.seeds, works)
    shared = "learning_rate" if "learning_rate" in known else known[0]
    value = value_of(experiment.algorithm, shared)
    return {shared: np.full(sweep.num_members, value, np.float32)}


def for_host(
    hyperparams: dict[str, jax.Array],
    metrics: dict[str, jax.Array],
    reductions: Mapping[str, Reduction],
) -> dict[str, jax.Array]:
    """Reduces the metrics of members to scalars, and keeps arrays `[P]` of some.

    Args:
      hyperparams: hyperparameters of the members, `[P]`.
      metrics: metrics of the members, `[P]`, with `parent` among them where members exchange.
      reductions: how each metric is reduced, as in `Algorithm.metrics`.
    """
    parent = metrics.pop("parent", None)
    is_summed = {name: reductions.get(name) == "sum" for name in metrics}
    total = {name: x.sum() if is_summed[name] else x.mean() for name, x in metrics.items()}
    count = metrics["num_episodes"]
    mean = metrics["episode_return_sum"] / jnp.maximum(count, 1.0)
    members = {name: x for name, x in metrics.items() if reductions.get(name) == "each"}
    members["episode_return"] = jnp.where(count > 0, mean, jnp.nan)
    if parent is not None:
        members |= {"parent": parent} | hyperparams
    return total | {f"{PREFIX}{name}": x for name, x in members.items()}


def evaluate_members(
    env: Environment,
    policy: Policy,
    learner: LearnerState,
    key: jax.Array,
    *,
    num_episodes: int,
    greedy: bool,
) -> Evaluation:
    """Evaluates every member in the same episodes: that of the best member, with those of all.

    Args:
      env: the environment.
      policy: the policy of a member.
      learner: learners of all members, `jaxdrl.populations.state.learners(state)`.
      key: consumed.
      num_episodes: number of episodes of each member.
      greedy: as in `jaxdrl.evaluate`.
    """
    device = jax.local_devices()[0]
    played = jax.device_get(
        program(_run_members, STATIC, rules_of(env), player_of(env, policy))(
            env.default_params,
            *jax.device_put((learner, key), device),
            num_episodes=num_episodes,
            max_episode_steps=env.max_episode_steps or DEFAULT_MAX_STEPS,
            greedy=greedy,
        )
    )
    members = tuple(
        summarise(*jax.tree.map(lambda x, i=i: x[i], played)) for i in range(len(played[0]))
    )
    best = best_of([found.mean_return for found in members])
    return replace(members[best or 0], members=members)


def _run_members(
    rules: Rules,
    policy: Any,
    params: Any,
    learner: Any,
    key: jax.Array,
    **how: Any,
) -> Any:
    """`run_episodes` for each member, one after another: arrays `[P, num_episodes]`."""
    # The raw data of the key: all members play the same episodes, which looks like key reuse.
    data, impl = jax.random.key_data(key), jax.random.key_impl(key)

    def of_member(learner: Any) -> Any:
        return run_episodes(
            rules, policy, params, learner, jax.random.wrap_key_data(data, impl=impl), **how
        )

    return jax.lax.map(of_member, learner)
