"""`jaxdrl.follow`: a policy in use that takes each new checkpoint of a run, without a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax
from flax import linen as nn

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.checks import Count, Index, NonNegative, Positive, checked, require
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment
from jaxdrl.io.console import make_console, warner
from jaxdrl.runs.overrides import Overrides
from jaxdrl.serving.followed_policy import FollowedPolicy
from jaxdrl.serving.source import Choice, Version

BATCH_SIZES = (1, 8, 64, 512)
"""Batch sizes that a policy is compiled for."""


@checked
def follow(
    run_dir: Path | str,
    *,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
    seconds: Positive = 1.0,
    wait: NonNegative = 0.0,
    batch_sizes: tuple[Count, ...] = BATCH_SIZES,
    on_change: Callable[[Version], Any] | None = None,
    on_refusal: Callable[[str], Any] | None = None,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
) -> FollowedPolicy:
    """The greedy policy of a run that may still be training, always of its newest checkpoint.

    `policy = jaxdrl.follow("runs/x")`, then `policy(obs)` for one observation or a batch. A thread
    looks for new checkpoints. One is taken when its digests hold, it belongs to the run, fits and
    is finite, and it has acted; until then and otherwise the last one stays in use. Where `run_dir`
    is a symbolic link that is pointed at another run of the same spaces, its policy is taken.

    Args:
      run_dir: directory of the run.
      checkpoint: None for the last valid one, "best" for the best by evaluation, or the update of
        one, which is then kept.
      member: as in `jaxdrl.restore`, for a sweep; None: the best in each checkpoint.
      setting: likewise.
      seconds: between two looks for a new checkpoint.
      wait: seconds to wait for the run and its first checkpoint.
      batch_sizes: for which the policy is compiled at the start; other batches are padded or split.
      on_change: is called in the thread with each version that is taken, the first one included.
      on_refusal: is called in the thread with why a checkpoint is refused, once for each; by
        default it is printed as a warning.
      env: as in `jaxdrl.restore`, for a run with an environment given in Python.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.

    Raises:
      ConfigError: if the directory is not a run or has no valid checkpoint after `wait` seconds.
    """
    require(len(batch_sizes) > 0, "batch_sizes", batch_sizes, "must have at least one size")
    works = "must be the update of a checkpoint, 'best', or None for the last"
    require(
        not isinstance(checkpoint, str) or checkpoint == "best", "checkpoint", checkpoint, works
    )
    overrides = Overrides(env, network, optimizer, make_algorithm)
    choice = Choice(overrides, checkpoint, member, setting, batch_sizes)
    report = on_refusal or warner(make_console("stderr"))
    policy = FollowedPolicy(Path(run_dir), choice, report, on_change)
    policy.start(wait)
    policy.keep_looking(seconds)
    return policy
