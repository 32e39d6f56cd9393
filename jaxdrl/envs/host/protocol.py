"""The protocol of environments of the host: many copies of one, which never reset themselves.

An `Environment` of the host has a `HostEnvironment` in its field `host`. Its `reset` and `step` say
how its arrays look, which is all that an algorithm asks for; actors play its `HostBatch`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdrl.core.spaces import Dict, ObservationSpace, Space
from jaxdrl.envs.protocol import Environment


class HostBatch(NamedTuple):
    """`N` copies of an environment, with NumPy arrays in and out.

    Arrays that it returns are never written to again, neither by it nor by whoever gets them. It is
    used by one thread at a time, but `close` may come from another one while a call is under way.

    Attributes:
      reset: `(rows bool [N], seeds uint32 [N]) -> obs [N, ...]`: begins an episode in these rows,
        each decided by its seed alone. The observations of other rows are those of before.
      step: `(action [N, ...]) -> (obs [N, ...], reward float32 [N], terminated bool [N], truncated
        bool [N])`. `obs` is the true successor, also at the end of an episode, and the two flags
        are never true together. A row whose episode has ended is reset before the next step.
      close: `() -> None`: ends all processes and frees everything; may be called twice.
      draw: `(row) -> uint8 [height, width, 3]`, a picture of one copy as it is now; None if there
        is no picture.
      seek: `(seeds uint32 [N], episodes int [N], actions [N, M, ...], num_actions int [N]) -> obs`,
        for a package that seeds a copy only when it is made: `reset` then uses the seeds of its
        first call alone, and what decides an episode is the first seed of the copy and the number
        of the episode. `seek`, in place of the first `reset`, puts each copy into the episode with
        a number, from 0, that began with `seeds`, and takes its first `num_actions` actions. None
        where each seed decides its episode.
    """

    reset: Callable[[np.ndarray, np.ndarray], Any]
    step: Callable[[np.ndarray], tuple[Any, np.ndarray, np.ndarray, np.ndarray]]
    close: Callable[[], None]
    draw: Callable[[int], np.ndarray] | None = None
    seek: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Any] | None = None


class CopyError(RuntimeError):
    """A copy of an environment raised, did not answer, or was killed; the message says which."""


class HostEnvironment(NamedTuple):
    """How copies of an environment of the host are made.

    Attributes:
      make: `(num_envs) -> HostBatch`; none of the copies has begun an episode yet.
      replays: whether the seed of an episode (or with `seek` the first one and its number) and its
        actions decide it to the bit, in any copy and process, so that an episode can be continued
        after an interruption.
      make_drawn: as `make`, with a `draw` where there is a picture, which some environments have
        to be told when they are made. None: `make` does.
    """

    make: Callable[[int], HostBatch]
    replays: bool = False
    make_drawn: Callable[[int], HostBatch] | None = None


@struct.dataclass
class HostState:
    """What one copy has played, from which its running episode can be played again.

    Attributes:
      episode: number of the running episode, int32; -1 before the first one.
      num_steps: steps of this copy in all its episodes, int32.
      actions: the actions of the running episode, `[M, *action.shape]`, from which the first
        `episode_length` hold; `M` is the longest episode, or 0 if episodes cannot be replayed.
    """

    episode: jax.Array
    num_steps: jax.Array
    actions: Any


@struct.dataclass
class HostParams:
    """What a run keeps in mind of an environment of the host, whose state depends on it.

    Attributes:
      max_episode_steps: the longest possible episode, None if there is no limit.
      replays: whether a running episode can be played again.
    """

    max_episode_steps: int | None = struct.field(pytree_node=False)
    replays: bool = struct.field(pytree_node=False)


def on_host(
    name: str,
    host: HostEnvironment,
    observation_space: ObservationSpace,
    action_space: Space,
    *,
    max_episode_steps: int | None = None,
    action_mask: Callable[[Any], jax.Array] | None = None,
) -> Environment:
    """An `Environment` whose steps are taken by the host.

    Args:
      name: as in `Environment`, and likewise the others.
      host: makes its copies. Without a limit on the length of episodes they cannot be replayed.
      observation_space: of `obs`.
      action_space: of `action`.
      max_episode_steps: the longest possible episode, None if there is no limit.
      action_mask: `(obs) -> bool`.
    """
    num_kept = max_episode_steps if host.replays and max_episode_steps else 0
    actions = jax.ShapeDtypeStruct(
        (num_kept, *action_space.shape), jax.dtypes.canonicalize_dtype(action_space.dtype)
    )
    return Environment(
        name=name,
        reset=partial(_reset, observation_space, actions),
        step=partial(_step, name, observation_space),
        observation_space=observation_space,
        action_space=action_space,
        default_params=HostParams(max_episode_steps, num_kept > 0),
        max_episode_steps=max_episode_steps,
        action_mask=action_mask,
        host=host,
    )


def _reset(space: ObservationSpace, actions: Any, key: jax.Array, params: Any) -> tuple[Any, Any]:
    """The state before the first episode, whose observation is not known yet: zeros."""
    del key, params
    nothing = jnp.zeros((), jnp.int32)
    state = HostState(
        episode=nothing - 1,
        num_steps=nothing,
        actions=jnp.zeros(actions.shape, actions.dtype),
    )
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes_of(space)), state


def _step(
    name: str, space: ObservationSpace, key: jax.Array, state: Any, action: Any, params: Any
) -> tuple:
    """What a step returns, for those who ask for shapes; it fails where a program runs it."""
    del key, params
    scalar = partial(jax.ShapeDtypeStruct, ())
    returned = shapes_of(space), scalar(jnp.float32), scalar(jnp.bool), scalar(jnp.bool)

    def refuse(*arguments: Any) -> Any:
        raise RuntimeError(
            f"{name}: runs on the host, and not in a compiled program; train it with jaxdrl.run, "
            "and play it with jaxdrl.evaluate"
        )

    obs, reward, terminated, truncated = jax.pure_callback(
        refuse, returned, action, vmap_method="broadcast_all"
    )
    return obs, state, reward, terminated, truncated, {}


def before_each_step(env: Environment, call: Callable[[], None]) -> Environment:
    """An environment of the host whose copies do `call()` before each step, which may raise."""

    def make(num_envs: int) -> HostBatch:
        batch = env.host.make(num_envs)

        def step(action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
            call()
            return batch.step(action)

        return batch._replace(step=step)

    return env._replace(host=env.host._replace(make=make))


def shapes_of(space: ObservationSpace) -> Any:
    """Shape and dtype of an observation in a space, in a dictionary where the space is a `Dict`."""
    if isinstance(space, Dict):
        return {name: shapes_of(inner) for name, inner in space.items}
    return jax.ShapeDtypeStruct(space.shape, jax.dtypes.canonicalize_dtype(space.dtype))
