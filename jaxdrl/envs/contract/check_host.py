"""Checks whether the copies of an environment of the host keep the contract."""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any

import jax
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.envs.contract.findings import (
    Finding,
    check_flags,
    check_limit,
    check_masks,
    check_observations,
    check_rewards,
    first_place,
)
from jaxdrl.envs.contract.host_play import (
    Begun,
    Recorded,
    begin_alike,
    drawer,
    play_again,
    play_on_host,
)
from jaxdrl.envs.host.protocol import shapes_of
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError

NUM_AGAIN = 128
"""How many steps are played a second time."""

MAX_STEPS, MAX_BYTES = 1024, 2**26
"""The most steps of a play, and the most memory for its observations, if nobody says how many."""

FEWEST = 3
"""From how few episodes nothing is concluded about what all of them have in common."""


def most_steps(env: Environment, num_envs: int) -> int:
    """How many steps are played at most if nobody says how many."""
    leaves = jax.tree.leaves(shapes_of(env.observation_space))
    num_bytes = num_envs * sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
    return max(64, min(MAX_STEPS, MAX_BYTES // num_bytes))


def check_on_host(
    env: Environment, num_envs: int, num_steps: int, seed: int
) -> tuple[Finding, ...]:
    """Plays at random, once as it comes and once again, and looks at every row."""
    types = _check_types(env)
    if types.verdict == "broken":  # what follows would say the same in other words
        return (types,)
    recorded = play_on_host(env, num_envs, num_steps, seed)
    seen = recorded.seen
    return (
        types,
        _check_starts(recorded),
        check_flags(seen),
        *_check_ends(env, recorded),
        _check_kept(recorded),
        _check_first_steps(recorded),
        _check_seeds(env, recorded, seed),
        _check_arrays(recorded),
        check_limit(env, seen),
        check_rewards(seen),
        check_observations(seen),
        *check_masks(env, seen),
    )


def _check_types(env: Environment) -> Finding:
    """Resets and steps two copies, and closes them twice."""
    what = "shapes and dtypes are those of the spaces"
    expected = shapes_of(env.observation_space)
    both = np.ones(2, bool)
    try:
        check_types(env)
        with closing(env.host.make(2)) as batch:
            start = batch.reset(both, np.arange(2, dtype=np.uint32))
            action, _ = drawer(env, np.random.default_rng(0), 2)(start)
            obs, reward, terminated, truncated = batch.step(action)
        batch.close()
    except ConfigError as error:
        return Finding(what, "broken", str(error))
    flag, number = jax.ShapeDtypeStruct((), np.bool_), jax.ShapeDtypeStruct((), np.float32)
    parts = {
        "the observation after a reset": (start, expected),
        "the observation after a step": (obs, expected),
        "reward": (reward, number),
        "terminated": (terminated, flag),
        "truncated": (truncated, flag),
    }
    for part, (found, wanted) in parts.items():
        detail = _difference(part, found, wanted)
        if detail:
            return Finding(what, "broken", detail)
    return Finding(what, "holds")


def _difference(part: str, found: Any, wanted: Any) -> str:
    """How a batch of two rows differs from what one row is to look like; empty if it does not."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            given = sorted(found) if isinstance(found, dict) else type(found).__name__
            return f"{part} is {given}, but its space is a Dict of {sorted(wanted)}"
        details = [_difference(f"{part}[{k!r}]", found[k], wanted[k]) for k in wanted]
        return next(filter(None, details), "")
    shape = (2, *wanted.shape)
    if isinstance(found, np.ndarray) and (found.shape, found.dtype) == (shape, wanted.dtype):
        return ""
    is_array = isinstance(found, np.ndarray)
    given = f"{found.dtype}{list(found.shape)}" if is_array else f"a {type(found).__name__}"
    return f"{part} of 2 copies is {given}; must be a NumPy array {wanted.dtype}{list(shape)}"


def _check_starts(recorded: Recorded) -> Finding:
    starts = _starts(recorded.resets)
    what, distinct = "episodes start differently", len({x.tobytes() for x in starts})
    if distinct == 1 and len(starts) > 1:
        return Finding(what, "note", "all start alike, whatever seed reset gets")
    return Finding(what, "holds", f"{distinct} of {len(starts)} starts are distinct")


def _check_ends(env: Environment, recorded: Recorded) -> list[Finding]:
    """Whether last observations look like those of resets, and no other observations do."""
    what, seen = "the last observation is the true successor", recorded.seen
    ended = seen.terminated | seen.truncated
    if not ended.any():
        steps = f"no episode ended in {len(ended)} steps; take more with num_steps"
        return [Finding(what, "note", steps)]
    counts = f"{int(seen.terminated.sum()):,} terminated, {int(seen.truncated.sum()):,} truncated"
    where = f"at the ends of {int(ended.sum())} episodes, {counts}"
    before, after = _transitions(env, recorded)
    starts = _numbers(env.observation_space, _starts_of(recorded.resets))
    scale = np.concatenate([after.reshape(-1, after.shape[-1]), starts]).std(axis=0) + 1e-8
    goes_back = np.zeros(ended.shape, bool)
    spread = max(_nearest(x, np.delete(starts, i, 0), scale) for i, x in enumerate(starts[:64]))
    sample = np.random.default_rng(0).permutation(np.argwhere(~ended))[:256]
    for t, n in [*np.argwhere(ended).tolist()[:256], *sample.tolist()]:
        from_start = _nearest(after[t, n], starts, scale)
        moved = np.abs((after[t, n] - before[t, n]) / scale).mean()
        goes_back[t, n] = from_start < moved and from_start <= 2 * spread
    looked_at = np.argwhere(ended)[:256]
    at_ends = goes_back[tuple(looked_at.T)]
    elsewhere = goes_back[tuple(sample.T)].mean() if len(sample) else 0.0
    if len(at_ends) >= FEWEST and at_ends.mean() > 0.9 and elsewhere < 0.5:
        num = f"{at_ends.sum()} of {len(at_ends)}"
        detail = f"{num} look like those of resets: {first_place(ended, seen)}"
        # An episode may end where it began, but if starts differ, not all episodes can.
        differ = len(np.unique(starts, axis=0)) > 1
        return [Finding(what, "broken" if differ else "note", detail)]
    return [Finding(what, "holds", where)]


def _transitions(env: Environment, recorded: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Observations before and after each step as numbers, `[T, N, D]`."""
    after = [_numbers(env.observation_space, result[0]) for result in recorded.results]
    starts = {b.step: (b.rows, _numbers(env.observation_space, b.obs)) for b in recorded.resets}
    before, now = [], starts[0][1]
    for step, obs in enumerate(after):
        if step in starts:
            rows, start = starts[step]
            now = np.where(rows[:, None], start, now)
        before.append(now)
        now = obs
    return np.stack(before), np.stack(after)


def _numbers(space: spaces.ObservationSpace, obs: Any) -> np.ndarray:
    """A batch of observations as float32 `[N, D]`, labels one-hot, large pictures thinned out."""
    if isinstance(space, spaces.Dict):
        return np.concatenate([_numbers(inner, obs[name]) for name, inner in space.items], axis=1)
    if isinstance(space, spaces.Discrete):
        labels = np.arange(min(space.n, 512))
        return (np.asarray(obs)[:, None] == labels).astype(np.float32)
    flat = np.asarray(obs).reshape(len(obs), -1)
    return flat[:, :: max(1, flat.shape[1] // 512)].astype(np.float32)


def _nearest(x: np.ndarray, others: np.ndarray, scale: np.ndarray) -> float:
    """The mean distance of `[D]` to the nearest of `[K, D]`, in standard deviations."""
    if not len(others):
        return 0.0
    return float(np.abs((others - x) / scale).mean(axis=1).min())


def _starts_of(resets: list[Begun]) -> Any:
    """The observations at the starts of all episodes, `[K, ...]`."""
    rows = [jax.tree.map(lambda x, b=begun: x[b.rows], begun.obs) for begun in resets]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


def _starts(resets: list[Begun]) -> np.ndarray:
    """The same as bytes, `[K, B]`."""
    leaves = jax.tree.leaves(_starts_of(resets))
    flat = [np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8) for x in leaves]
    return np.concatenate(flat, axis=1)


def _check_kept(recorded: Recorded) -> Finding:
    what, num = "rows that are not reset keep their observation", 0
    for begun in recorded.resets:
        if begun.before is None:
            continue
        pairs = zip(jax.tree.leaves(begun.obs), jax.tree.leaves(begun.before), strict=True)
        others = ~begun.rows
        num += int(others.sum())
        if any(x[others].tobytes() != y[others].tobytes() for x, y in pairs):
            return Finding(what, "broken", f"not in a reset after step {begun.step}")
    return Finding(what, "holds", f"{num:,} rows beside others that were reset")


def _check_first_steps(recorded: Recorded) -> Finding:
    """Whether the first step of every episode does nothing, unlike others."""
    what = "the first step of an episode is one"
    same, later = [], []
    first = {begun.step: begun for begun in recorded.resets[1:]}
    for step, (obs, reward, *_) in enumerate(recorded.results):
        if step in first:
            rows, before = first[step].rows, first[step].obs
            same += (_equal_rows(obs, before) & (reward == 0))[rows].tolist()
        elif step:
            later += _equal_rows(obs, recorded.results[step - 1][0]).tolist()
    if len(same) >= FEWEST and all(same) and np.mean(later or [1.0]) < 0.5:
        detail = (
            f"in all {len(same)} episodes after the first it changes nothing and earns nothing, as "
            "where a package resets in the step after the end"
        )
        return Finding(what, "broken", detail)
    return Finding(what, "holds")


def _equal_rows(obs: Any, other: Any) -> np.ndarray:
    pairs = zip(jax.tree.leaves(obs), jax.tree.leaves(other), strict=True)
    return np.logical_and.reduce([(x == y).reshape(len(x), -1).all(axis=1) for x, y in pairs])


def _check_seeds(env: Environment, recorded: Recorded, seed: int) -> Finding:
    """Whether seeds and actions give the same bits again, in other copies."""
    what, num = "seeds and actions decide episodes", min(NUM_AGAIN, len(recorded.results))
    differs = play_again(env, recorded, num)
    detail = "" if differs is None else f"a second play differs at step {differs} of {num}"
    with closing(env.host.make(1)) as batch:
        is_seeded_once = batch.seek is not None
    if not detail and not is_seeded_once:
        one, other = map(jax.tree.leaves, begin_alike(env, seed))
        if any(x.tobytes() != y.tobytes() for x, y in zip(one, other, strict=True)):
            detail = "two copies that have played differently start differently with one seed"
    if not env.host.replays:
        found = detail or f"{num} steps were the same again, but it does not promise that"
        return Finding(what, "note", f"{found}; after an interruption episodes begin anew")
    return Finding(what, "broken" if detail else "holds", detail or f"{num} steps, played twice")


def _check_arrays(recorded: Recorded) -> Finding:
    what = "arrays are not written to later"
    if recorded.num_changed:
        return Finding(what, "broken", f"{recorded.num_changed:,} results changed afterwards")
    return Finding(what, "holds")
