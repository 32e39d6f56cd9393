"""Array containers and function types; every shape is stated here once.

`T` is the number of steps in one update, `N` the number of environments: all of them at the
boundary of an `Algorithm`, those of one device or shard inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Literal, NamedTuple, Protocol

import jax
from flax import struct

from jaxdrl.core.running_statistics import RunningStatistics


@struct.dataclass
class Transition:
    """Experience, `[T, N, ...]`: `reward[t]` follows `action[t]`, which was chosen from `obs[t]`.

    Attributes:
      obs: observation in the environment's own dtype.
      action: what the distribution sampled (before bounds are applied to a continuous action).
      log_prob: log-probability of `action`, float32.
      value: V(obs), float32.
      next_value: V of the true successor, which at the end of an episode is the final observation,
        float32; meaningless where `terminated`.
      reward: reward from the environment, float32.
      terminated: bool, the episode ended and no reward can follow.
      truncated: bool, a limit cut the episode short; excludes `terminated`.
      discounted_return: discounted sum of the usable rewards since the episode began (see
        `jaxdrl.core.finiteness`), clipped to +-`MAX_MAGNITUDE`, float32.
      episode_return: sum of the usable rewards since the episode began, this one included, float32.
      episode_length: steps since the episode began, this one included, int32.
      episode_start: bool, `obs[t]` is the first of an episode.
      carry: recurrent state before the first step of each sequence of `L` steps,
        `[T / L, N, ...]`; `()` for a feed-forward network.
      final_obs: the true successor observation where `truncated`, and of no meaning elsewhere; `()`
        unless the algorithm asked for it.
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
    final_obs: Any = ()


@struct.dataclass
class LearnerState:
    """The state that learning changes; replicated over the devices.

    An algorithm that does not use a field leaves `None` or `()` in it; `num_updates` always counts.

    Attributes:
      params: network parameters.
      opt_state: optimiser state.
      obs_statistics: running moments of the observations, None if these are not normalised.
      return_statistics: running moments of the discounted return, None if rewards are not
        normalised.
      key: PRNG key of the shuffles.
      num_updates: number of updates so far, int32.
      hyperparams: hyperparameters by name, which the policy may read; only in a member of a
        population, as `jaxdrl.member` returns it. `()` in a run of one agent, whose config has
        them.
      target_params: parameters of the target networks.
      pool: past selves that it plays against, a `jaxdrl.algorithms.opponents.Pool`.
    """

    params: Any
    opt_state: Any
    obs_statistics: RunningStatistics | None
    return_statistics: RunningStatistics | None
    key: jax.Array
    num_updates: jax.Array
    hyperparams: Any = ()
    target_params: Any = ()
    pool: Any = ()


@struct.dataclass
class ActorState:
    """The state that acting changes; every array is `[N, ...]`, sharded along the environments.

    Attributes:
      env_state: states of the environments.
      obs: the observations that the policy sees next.
      carry: recurrent state of the network, `()` for a feed-forward one.
      key: one PRNG key for each environment.
      episode_start: bool, `obs` is the first of an episode.
      episode_return: sum of rewards in the running episode, float32.
      episode_length: number of steps in the running episode, int32.
      discounted_return: discounted sum of rewards in the running episode, float32.
      replay: the experience of each environment that is kept, a `jaxdrl.algorithms.replay.Replay`;
        `()` for an algorithm that keeps none.
    """

    env_state: Any
    obs: Any
    carry: Any
    key: jax.Array
    episode_start: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    discounted_return: jax.Array
    replay: Any = ()


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
        greedy: bool = False,
    ) -> tuple[Any, Any]:
        """`(action, carry)`."""


class Policy(NamedTuple):
    """A policy as pure functions; the learner is an argument, so that it is never a stale closure.

    Attributes:
      initial_carry: `(num_envs) -> carry`, `()` for a feed-forward network.
      act: `(learner, carry, obs, episode_start, key, *, greedy=False) -> (action, carry)`
        with `obs [N, ...]` and `episode_start` bool `[N]`. `action [N, ...]` is in the action
        space; if `greedy`, it is the mode of the distribution.
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
"""Metrics that `learn` of every algorithm has to return: the sums of returns and lengths over the
episodes that ended in the update, and their number; the number of gradient steps that were skipped
because they were not finite; and the mean norm of the gradient over all other steps, 0 if there
were none."""


class Acting(NamedTuple):
    """How an algorithm acts in environments that are stepped outside its program.

    Attributes:
      decide: `(learner, carry, obs [N, ...], episode_start [N], keys [N], *, env_ids [N]) ->
        decision`, a `jaxdrl.algorithms.rollout.Decision`. Of the learner it may read what
        `acting_part` leaves. `env_ids` are global indices of the environments.
      value_of: `(learner, carry, obs, episode_start) -> V(obs)`, float32 `[N]`.
      num_steps: steps of a trajectory, `T`.
      gamma: discount of `Transition.discounted_return`.
      sequence_length: steps between the recurrent states that a trajectory keeps, `L`; None keeps
        that before its first step.
      keep_final_obs: whether the trajectory has `final_obs`.
    """

    decide: Callable[..., Any]
    value_of: Callable[..., jax.Array]
    num_steps: int
    gamma: Any
    sequence_length: int | None = None
    keep_final_obs: bool = False


class Algorithm(NamedTuple):
    """An algorithm as pure functions; nothing in it is jitted or donates its arguments.

    `jaxdrl.algorithms.sharded.shard_algorithm` makes one from functions that each device runs over
    its own environments. In a population of `P` members every array has a leading axis `[P, ...]`,
    the state is a `PopulationState`, and `init` takes hyperparameters as well.

    Attributes:
      init: `(key) -> state`, a `TrainState`.
      rollout: `(learner, actor) -> (actor, trajectory)`: acts in the environments. The algorithm
        chooses what a trajectory is; usually it is a `Transition [T, N, ...]`.
      learn: `(learner, trajectory) -> (learner, metrics)`. The learner has a field `num_updates`,
        which grows by 1; metrics are a flat dictionary of scalars, `REQUIRED_METRICS` among them.
      train_step: `(state) -> (state, metrics)`: `learn` after `rollout`.
      policy: how the learner acts.
      state_specs: how the state is laid out on a mesh: a tree of `jax.sharding.PartitionSpec`, each
        of which applies to the whole subtree in its place, such as `TrainState(learner=P(),
        actor=P("data"))`: the learner on every device, the actor split along the environments.
      trajectory_specs: the same for the trajectory, such as `P(None, "data")` for `[T, N, ...]`.
      metrics: how each metric is reduced over the members of a population, by name. A metric that
        is not named here is averaged.
      stages: scopes of `jax.named_scope` in the step, by which a profile breaks down its time;
        `a/b` is the scope b within a. Scopes that the program does not have are left out.
      acting: how it acts in environments of the host, None if it cannot.
      collect: of an algorithm with a replay buffer, the part of `rollout` that acts: `(learner,
        actor) -> (actor, steps)`, with `()` for the replay of both actors; None for the others.
      remember: the part that follows: `(replay, steps) -> (replay, trajectory)`.
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
    acting: Acting | None = None
    collect: Callable[[Any, Any], tuple[Any, Any]] | None = None
    remember: Callable[[Any, Any], tuple[Any, Any]] | None = None


class Network(NamedTuple):
    """A policy and value network as pure functions.

    Attributes:
      initial_carry: `(num_envs) -> carry`, `()` for a feed-forward network.
      init: `(key, obs) -> params`, `obs [N, ...]` float32.
      apply: `(params, carry, obs, episode_start) -> (policy_outputs, value [N], carry)`, always all
        three, with the carry as `initial_carry` makes it. Policy outputs are logits, `[N, n]` for
        Discrete and `[N, sum(nvec)]` for MultiDiscrete actions, and `(mean, log_std)`, each
        `[N, *shape]`, for a Box. Where `episode_start`, a recurrent network uses its initial carry
        instead of the given one.
      unroll: `apply` over many steps, `(params, carry, obs [T, N, ...], episode_start [T, N]) ->
        (policy_outputs [T, N, ...], value [T, N])`. With None, `apply` is called step by step for a
        recurrent network, and on all steps at once for a feed-forward one.
    """

    initial_carry: Callable[[int], Any]
    init: Callable[[jax.Array, Any], Any]
    apply: Callable[[Any, Any, Any, jax.Array], tuple[Any, jax.Array, Any]]
    unroll: Callable[[Any, Any, Any, jax.Array], tuple[Any, jax.Array]] | None = None

    @property
    def has_memory(self) -> bool:
        """Whether the network is recurrent: whether it has a carry."""
        return bool(jax.tree.leaves(jax.eval_shape(lambda: self.initial_carry(1))))
