"""Checks whether a user's own algorithm keeps to the contract of `jaxdrl.Algorithm`."""

from __future__ import annotations

from typing import Any

import jax

from jaxdrl.core.keys import abstract_key
from jaxdrl.core.types import REQUIRED_METRICS, Algorithm
from jaxdrl.errors import ConfigError


def check_algorithm(algorithm: Algorithm) -> None:
    """Refuses an algorithm that breaks the contract of `Algorithm`; it is only traced.

    Raises:
      ConfigError: if its step changes the types of its state, or a metric is missing or not a
        scalar.
    """
    before = jax.eval_shape(algorithm.init, abstract_key())
    after, metrics = jax.eval_shape(algorithm.train_step, before)
    if changed := _differences(before, after):
        raise ConfigError(
            f"train_step: {changed[0]}; shapes, dtypes and weak types of the state must stay as "
            "init gives them"
        )
    missing = [name for name in REQUIRED_METRICS if name not in metrics]
    if missing:
        raise ConfigError(f"metrics: lack {', '.join(missing)}; every algorithm must give them")
    for name, metric in metrics.items():
        if metric.shape != ():
            raise ConfigError(f"metrics[{name!r}]: has shape {metric.shape}; must be a scalar")


def _differences(before: Any, after: Any) -> list[str]:
    """Describes where two abstract states differ."""
    types = [
        {jax.tree_util.keystr(path): _type(x) for path, x in jax.tree_util.tree_leaves_with_path(t)}
        for t in (before, after)
    ]
    if types[0].keys() != types[1].keys():
        return ["gives back a state of another structure"]
    return [
        f"state{path} was {old} and is {types[1][path]} afterwards"
        for path, old in types[0].items()
        if old != types[1][path]
    ]


def _type(x: Any) -> str:
    return f"{'weak ' if x.weak_type else ''}{x.dtype}{list(x.shape)}"
