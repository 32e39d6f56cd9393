"""Array containers and function types; every shape is stated here once.

`T` is steps of one update, `N` environments (global at the boundary of an `Algorithm`, those of
one device or shard inside it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Literal, NamedTuple, Protocol

import jax
from flax import struct

from jaxdrl.core.running_statistics import RunningStatistics


@struct.dataclass
class Transition:
    """Experience, `[T, N, ...]`: `reward[t]` follows `action[t]`, taken on seeing `obs[t]`.

    Attributes:
      obs: observation in the environment's own dtype.
      action: what the distribution sampled (before bounds are applied to a continuous action).
      log_prob: its log-probability, float32.
      value: V(obs), float32.
      next_value: V of the true successor, the final observation where an episode ended, float32;
        not meaningful where `terminated`.
      reward: float32, as the environment gave it.
      terminated: bool, no reward can follow.
      truncated: bool, a limit cut the episode; excludes `terminated`.
      discounted_return: discounted sum of the usable rewards since the episode began (see
        `jaxdrl.core.finiteness`), cut at +-`MAX_MAGNITUDE`, float32.
      episode_return: sum of the usable rewards since the episode began, this one included, float32.
      episode_length: steps since the episode began, this one included, int32.
      episode_start: bool, `obs[t]` is the first of an episode.
      carry: memory of the network before the first step of each sequence of `L` steps,
        `[T / L, N, ...]`; `()` for a feed-forward network.
    """

    obs: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    discounted_return: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    episode_start: jax.Array
    carry: Any


@struct.dataclass
class LearnerState:
    """What learning changes; replicated over the devices.

    Attributes:
      params: network parameters.
      opt_state: optimiser state.
      obs_statistics: running moments of the observations, None where they are not normalised.
      return_statistics: running moments of the discounted return, None likewise.
      key: PRNG key of the shuffles.
      num_updates: updates done, int32.
      hyperparams: of a member of a population, as `jaxdrl.member` gives it, by name: what its
        policy may read beside what it learnt. `()` in a run of one agent, whose config has them.
    """

    params: Any
    opt_state: Any
    obs_statistics: RunningStatistics | None
    return_statistics: RunningStatistics | None
    key: jax.Array
    num_updates: jax.Array
    hyperparams: Any = ()


@struct.dataclass
class ActorState:
    """What acting changes; every array is `[N, ...]`, sharded along the environments.

    Attributes:
      env_state: states of the environments.
      obs: what the policy sees next.
      carry: memory of the network, `()` for a feed-forward one.
      key: one PRNG key an environment.
      episode_start: bool, `obs` is the first of an episode.
      episode_return: sum of rewards of the running episode, float32.
      episode_length: steps of the running episode, int32.
      discounted_return: discounted sum of rewards of the running episode, float32.
    """

    env_state: Any
    obs: Any
    carry: Any
    key: jax.Array
    episode_start: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    discounted_return: jax.Array


@struct.dataclass
class TrainState:
    """The whole state of a run: `learner` replicated, `actor` sharded along environments."""

    learner: LearnerState
    actor: ActorState


class Act(Protocol):
    """How a policy acts, see `Policy`."""

    def __call__(
        self,
        learner: Any,
        carry: Any,
        obs: Any,
        episode_start: jax.Array,
        key: jax.Array,
        *,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """`(action, carry)`."""


class Policy(NamedTuple):
    """A policy as pure functions; the learner is an argument, so that it is never a stale closure.

    Attributes:
      initial_carry: `(num_envs) -> carry`, `()` for a feed-forward network.
      act: `(learner, carry, obs, episode_start, key, *, deterministic=False) -> (action, carry)`
        with `obs [N, ...]`, `episode_start` bool `[N]`; `action [N, ...]` lies in the action space,
        and is the mode of the distribution where `deterministic`.
    """

    initial_carry: Callable[[int], Any]
    act: Act


Reduction = Literal["mean", "sum", "each"]
"""How a metric of the members of a population becomes one number: their mean or their sum. "each"
is the mean, and every member's own number is logged beside it."""

REQUIRED_METRICS: dict[str, Reduction] = {
    "episode_return_sum": "sum",
    "episode_length_sum": "sum",
    "num_episodes": "sum",
    "skipped_steps": "each",
    "grad_norm": "mean",
}
"""Metrics that `learn` of every algorithm has to give: the sums of returns and lengths over the
episodes that ended in the update, and their number; the gradient steps that were left out because
they were not finite; and the mean norm of the gradient over the steps that were taken, 0 if none
was."""


class Algorithm(NamedTuple):
    """An algorithm as pure functions; nothing in it is jitted or donates its arguments.

    `jaxdrl.algorithms.sharded.shard_algorithm` makes one from functions that each device runs over
    its own environments. Of a population of `P` members every array has a leading axis `[P, ...]`,
    the state is a `PopulationState`, and `init` takes hyperparameters as well.

    Attributes:
      init: `(key) -> state`, a `TrainState`.
      rollout: `(learner, actor) -> (actor, trajectory)`: acts in the environments. What the
        trajectory holds is the algorithm's own choice; usually it is a `Transition [T, N, ...]`.
      learn: `(learner, trajectory) -> (learner, metrics)`. The learner has a field `num_updates`,
        which grows by 1; metrics are a flat dictionary of scalars, `REQUIRED_METRICS` among them.
      train_step: `(state) -> (state, metrics)`: `learn` after `rollout`.
      policy: how the learner acts.
      state_specs: how the state lies on a mesh: a tree of `jax.sharding.PartitionSpec`, each of
        which holds for the whole subtree in its place, such as `TrainState(learner=P(),
        actor=P("data"))`: the learner on every device, the actor split along the environments.
      trajectory_specs: likewise of the trajectory, such as `P(None, "data")` for `[T, N, ...]`.
      metrics: how each metric is reduced over the members of a population, by its name. A metric
        that is not named here is averaged.
      stages: scopes of `jax.named_scope` in the step, by which a profile breaks down its time;
        `a/b` is the scope b within a. Those that the program has not are left out.
    """

    init: Callable[Concatenate[jax.Array, ...], Any]
    rollout: Callable[[Any, Any], tuple[Any, Any]]
    learn: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
    train_step: Callable[[Any], tuple[Any, dict[str, jax.Array]]]
    policy: Policy
    state_specs: Any
    trajectory_specs: Any
    metrics: Mapping[str, Reduction] = REQUIRED_METRICS
    stages: tuple[str, ...] = ("rollout",)


class Network(NamedTuple):
    """A policy and value network as pure functions.

    Attributes:
      initial_carry: `(num_envs) -> carry`, `()` for a feed-forward network.
      init: `(key, obs) -> params`, `obs [N, ...]` float32.
      apply: `(params, carry, obs, episode_start) -> (policy_outputs, value [N], carry)`, always all
        three, the carry as `initial_carry` gives it. Policy outputs are logits, `[N, n]` for
        Discrete and `[N, sum(nvec)]` for MultiDiscrete actions, and `(mean, log_std)`, each
        `[N, *shape]`, for a Box. A network
        with memory takes its initial carry instead of the given one where `episode_start`.
      unroll: `apply` of many steps, `(params, carry, obs [T, N, ...], episode_start [T, N]) ->
        (policy_outputs [T, N, ...], value [T, N])`. None applies it step by step to a network with
        memory, and to all steps at once without.
    """

    initial_carry: Callable[[int], Any]
    init: Callable[[jax.Array, Any], Any]
    apply: Callable[[Any, Any, Any, jax.Array], tuple[Any, jax.Array, Any]]
    unroll: Callable[[Any, Any, Any, jax.Array], tuple[Any, jax.Array]] | None = None

    @property
    def has_memory(self) -> bool:
        """Whether a carry goes from one step to the next."""
        return bool(jax.tree.leaves(jax.eval_shape(lambda: self.initial_carry(1))))
