"""The host loop around a compiled training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxdrl.checks import Count, checked, require_count
from jaxdrl.core.types import Algorithm

State = TypeVar("State")
"""`TrainState`, or that of a population."""

Hook = Callable[[int, dict[str, Any]], Any]
"""`(number of updates done, metrics as NumPy scalars)`, called by the host loop."""


class NoStepError(Exception):
    """A step could not be taken, and the state that it was given is as it was."""


@checked
def jit_step(algorithm: Algorithm) -> Any:
    """Jits the training step and donates its state: `(state) -> (state, metrics)`.

    A donated state cannot be used after the call ("Array has been deleted"); use the returned one.
    The step compiles at its first call; `.lower(state).compile()` compiles it ahead of time.
    """
    return jax.jit(algorithm.train_step, donate_argnums=0)


@checked
def train(
    algorithm: Algorithm,
    state: State,
    *,
    num_updates: Count,
    on_update: Hook | Sequence[Hook] | None = None,
) -> State:
    """Trains for `num_updates` updates.

    It prints nothing. The step is compiled before the first update, which takes seconds, or a
    minute for large ones on a GPU.

    Args:
      algorithm: one of jaxdrl, or your own.
      state: from its `init`, or from an earlier `train`. It is donated: use the returned one.
      num_updates: number of updates, at least 1.
      on_update: one hook or several, called after each update with the number of updates that the
        state has seen and with its metrics on the host. Their results are ignored. They run one
        update late, while the devices compute the next one, and never make the devices wait.

    Returns:
      The state after the last update. By then the hooks have seen every update.

    Raises:
      ConfigError: if `num_updates` is not an integer of at least 1.
    """
    return run_updates(jit_step(algorithm), state, num_updates=num_updates, on_update=on_update)


def run_updates(
    step: Callable[[Any], tuple[Any, dict[str, jax.Array]]],
    state: Any,
    *,
    num_updates: int,
    on_update: Hook | Sequence[Hook] | None = None,
    on_state: Callable[[int, Any], Any] | None = None,
    on_no_step: Callable[[NoStepError], Any] | None = None,
) -> Any:
    """`train` with a step that is already compiled, and with access to every state.

    `on_state` is called with the number of updates done and with the state, which is still being
    computed and is donated to the next step afterwards: anything to be kept must be copied. The
    loop stops where it returns true, and after a `NoStepError` of the step, which `on_no_step` is
    called with.
    """
    require_count("num_updates", num_updates)
    hooks = [] if on_update is None else [on_update] if callable(on_update) else list(on_update)
    done = num_updates_of(state)
    pending: dict[str, jax.Array] | None = None
    update = done
    for update in range(done + 1, done + num_updates + 1):
        try:
            state, metrics = step(state)
        except NoStepError as error:
            if on_no_step is None:
                raise
            on_no_step(error)
            update -= 1
            break
        for value in metrics.values():
            if not isinstance(value, np.generic):  # which an actor has counted
                value.copy_to_host_async()
        if pending is not None:
            _deliver(hooks, update - 1, pending)
        pending = metrics
        if on_state is not None and on_state(update, state):
            break
    if pending is not None:
        _deliver(hooks, update, pending)
    return state


def num_updates_of(state: Any) -> int:
    """Updates that a state has seen, or that the members of a population have."""
    # Of members that other processes hold, this one cannot see the number, which is the same.
    count = state.learner.num_updates
    return int(np.max(count.addressable_data(0) if isinstance(count, jax.Array) else count))


def _deliver(hooks: list[Hook], update: int, metrics: dict[str, jax.Array]) -> None:
    fetched = jax.device_get(metrics)
    for hook in hooks:
        hook(update, fetched)
