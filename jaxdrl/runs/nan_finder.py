"""Finds the operation that makes the first NaN, by repeating an update with checks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import jax
from jax.experimental import checkify

from jaxdrl.core.types import Algorithm, TrainState
from jaxdrl.distributed.layout import place
from jaxdrl.runs.stopping import NonFiniteError

Step = Callable[[TrainState], tuple[TrainState, dict[str, jax.Array]]]


def watched(step: Step, find: Callable[[TrainState], str]) -> Step:
    """`step`, which must not donate its state, followed by a check of its metrics.

    Raises:
      NonFiniteError: after the first update with a number that is not finite, with what `find`
        finds from the state before it.
    """

    def look(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        after, metrics = step(state)
        names = ("nonfinite_observations", "nonfinite_rewards", "skipped_steps")
        found = {name: metrics[name] for name in names if name in metrics}
        bad = [f"{name} {int(value)}" for name, value in found.items() if value > 0]
        if bad:
            update = int(after.learner.num_updates)
            raise NonFiniteError(f"update {update} ({', '.join(bad)}): {find(state)}")
        return after, metrics

    return look


def find_operation(algorithm: Algorithm, state: TrainState) -> str:
    """Repeats an update on one device, and names the operation that made the first NaN.

    Args:
      algorithm: without a mesh.
      state: from before the update.
    """
    checked = jax.jit(checkify.checkify(algorithm.train_step, errors=checkify.nan_checks))
    error, _ = checked(place(state, None, algorithm.state_specs))
    exception = error.get_exception()
    if exception is None:
        return "no operation made a NaN, so a number grew beyond the range of float32"
    frames = re.findall(r"^(\S+\.py:\d+ \(.*\))$", str(exception.traceback_info), re.MULTILINE)
    jax_dir = os.path.dirname(jax.__file__) + os.sep
    own = [frame for frame in frames if not frame.startswith(jax_dir)]
    where = " from ".join(own[:3])
    return f"{error.get()} {where}".strip()
