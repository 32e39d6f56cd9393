"""The greedy policy of a run as a function of rows, for files and programs that use it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.analysis.policy_inputs import Unread, alone, drop, drop_results, find_unread
from jaxdrl.core.keys import make_key
from jaxdrl.core.spaces import Dict, ObservationSpace
from jaxdrl.core.trees import without
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs import Environment, vector


class PolicyFunction(NamedTuple):
    """What the greedy policy does, of all that it is given.

    A row is an observation of one agent.

    Attributes:
      act: `(learner, obs) -> (action,)`, or with memory
        `(learner, obs, carry, episode_start) -> (action, carry)`, for any number of rows.
      shapes: of its arguments after the learner, for any number of rows.
      unread: what of them decides no action, such as what the critic alone reads.
    """

    act: Callable[..., tuple[Any, ...]]
    shapes: tuple[Any, ...]
    unread: Unread

    @property
    def taken(self) -> tuple[Any, ...]:
        """Shapes of the arguments without what is not read."""
        return drop(self.unread, self.shapes)

    @property
    def has_memory(self) -> bool:
        """Whether it takes and returns a recurrent state."""
        return len(self.shapes) > 1

    def act_on_taken(self, learner: LearnerState, *args: Any) -> tuple[Any, ...]:
        """`act` of the arguments without what is not read; the same is left out of the result."""
        act = alone(partial(self.act, learner), self.shapes, self.unread)
        return drop_results(self.unread, act(*args))


def policy_function(env: Environment, policy: Policy, learner: LearnerState) -> PolicyFunction:
    """The greedy policy as a function; what it does not read is found with one of its learners."""
    carry = policy.initial_carry(1)
    key = make_key(0)  # a deterministic policy does not use it

    def recurrent(
        learner: LearnerState, obs: Any, carry: Any, episode_start: jax.Array
    ) -> tuple[Any, Any]:
        return policy.act(learner, carry, obs, episode_start, key, greedy=True)

    def feed_forward(learner: LearnerState, obs: Any) -> tuple[Any]:
        start = jnp.zeros(jax.tree.leaves(obs)[0].shape[:1], jnp.bool)
        return (recurrent(learner, obs, (), start)[0],)

    has_memory, obs = bool(jax.tree.leaves(carry)), first_observations(env, 1)
    examples = (obs, carry, jnp.ones(1, jnp.bool)) if has_memory else (obs,)
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), examples)
    act = recurrent if has_memory else feed_forward
    return PolicyFunction(act, shapes, find_unread(partial(act, learner), shapes))


def first_observations(env: Environment, num: int) -> Any:
    """Observations after reset, `[num, ...]`, of one agent each."""
    if env.host is not None:
        with closing(env.host.make(num)) as batch:
            return batch.reset(np.ones(num, bool), np.arange(num, dtype=np.uint32))
    obs, _ = jax.jit(partial(vector.reset, env))(jax.random.split(make_key(0), num))
    return jax.tree.map(lambda x: x[:num], obs)


def space_read(env: Environment, unread: Unread) -> ObservationSpace:
    """The space of the observations without the entries that decide no action."""
    if not unread.obs:
        return env.observation_space
    return Dict(without(dict(env.observation_space.items), unread.obs))  # type: ignore[union-attr]
