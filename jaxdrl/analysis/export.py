"""`jaxdrl export`: a policy as one file, for programs that have JAX but not jaxdrl."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.analysis import policy_file
from jaxdrl.analysis.policy_file import FORMAT_VERSION, custom_calls_of, load_policy
from jaxdrl.analysis.policy_inputs import (
    Function,
    Unread,
    alone,
    drop,
    drop_results,
    export_of,
    find_unread,
)
from jaxdrl.checks import Index, checked, require
from jaxdrl.core.keys import make_key, pinned
from jaxdrl.core.spaces import Dict
from jaxdrl.core.trees import without
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment, vector
from jaxdrl.io.console import make_console
from jaxdrl.io.safe_files import replaced
from jaxdrl.runs import backend
from jaxdrl.runs.assemble import spaces_of
from jaxdrl.runs.machine import versions
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player
from jaxdrl.runs.run_dir import read_run, require_writable
from jaxdrl.runs.sweep_members import Member

PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that the file runs on."""

WITH_MEMORY = "(obs, carry, episode_start) -> (action, carry)"
"""How the policy of a recurrent network is called."""


@dataclass(frozen=True)
class Exported:
    """The result of `jaxdrl.export_policy`.

    Attributes:
      path: the file.
      about: content of its `about.json`.
      num_bytes: size of the file.
      member: the member whose policy it is, if the run is a sweep.
    """

    path: Path
    about: dict[str, Any]
    num_bytes: int
    member: Member | None = None


@checked
@pinned()
def export_policy(
    run_dir: Path | str,
    out: Path | str,
    *,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
) -> Exported:
    """Writes the deterministic policy of a run, with its observation statistics, as one file.

    The file contains a function `(obs) -> action`, or for a recurrent network
    `(obs, carry, episode_start) -> (action, carry)`, for any number of rows, on CPU, CUDA and TPU,
    as serialised by `jax.export`. A row is an observation of one agent. Entries of a dictionary
    observation, or of the memory, that the critic alone reads are no part of it. The file is read
    back and must act as the run does. It is a native program: load it only if you trust its origin,
    see `jaxdrl.load_policy`.

    Args:
      run_dir: directory of the run, which may still be running.
      out: the file.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, for a sweep.
      setting: likewise.
      env: as in `jaxdrl.restore`, for a run with an environment given in Python.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.

    Raises:
      ConfigError: if the directory is not a run or has no valid checkpoint, if the file cannot be
        written, or if it does not act as the run does.
    """
    require_writable("out", Path(out))
    overrides = Overrides(env, network, optimizer, make_algorithm)
    player = load_player(run_dir, overrides, "export_policy", checkpoint, member, setting)
    policy, shapes = _policy(player)
    unread = find_unread(policy, shapes)
    taken = drop(unread, shapes)
    program = export_of(alone(policy, shapes, unread), taken, unread, PLATFORMS)
    about = _describe(player, taken, unread)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as unchecked:
        policy_file.write(unchecked, bytes(program.serialize()), about)
        loaded = load_policy(unchecked, custom_calls=custom_calls_of(program))
        _check(path, loaded, policy, unread, player)
    return Exported(path, about, path.stat().st_size, player.member)


def _policy(player: Player) -> tuple[Function, tuple[Any, ...]]:
    """The policy as a function of all that it is given, and the shapes of that for any rows."""
    policy = player.policy
    learner = jax.device_get(player.learner)
    carry = policy.initial_carry(1)
    key = make_key(0)  # a deterministic policy does not use it

    def recurrent(obs: Any, carry: Any, episode_start: jax.Array) -> tuple[Any, Any]:
        return policy.act(learner, carry, obs, episode_start, key, deterministic=True)

    def feed_forward(obs: Any) -> tuple[Any]:
        start = jnp.zeros(jax.tree.leaves(obs)[0].shape[:1], jnp.bool)
        return (recurrent(obs, (), start)[0],)

    has_memory, obs = bool(jax.tree.leaves(carry)), _observations(player.env, 1)
    examples = (obs, carry, jnp.ones(1, jnp.bool)) if has_memory else (obs,)
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), examples)
    return recurrent if has_memory else feed_forward, shapes


def _observations(env: Environment, num: int) -> Any:
    """Observations after reset, `[num, ...]`, of one agent each."""
    if env.host is not None:
        with closing(env.host.make(num)) as batch:
            return batch.reset(np.ones(num, bool), np.arange(num, dtype=np.uint32))
    obs, _ = jax.jit(partial(vector.reset, env))(jax.random.split(make_key(0), num))
    return jax.tree.map(lambda x: x[:num], obs)


def _describe(player: Player, taken: tuple[Any, ...], unread: Unread) -> dict[str, Any]:
    """Content of `about.json`; arrays, of which those that it takes are `taken`, go by name."""

    def words(x: Any) -> dict[str, str]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(x)
        return {
            jax.tree_util.keystr(path, simple=True, separator=".") or "array": f"{leaf.dtype}"
            f"[batch{''.join(f', {n}' for n in leaf.shape[1:])}]"
            for path, leaf in leaves
        }

    env, has_memory = player.env, len(taken) > 1
    if unread.obs:
        seen = without(dict(env.observation_space.items), unread.obs)  # type: ignore[union-attr]
        env = env._replace(observation_space=Dict(seen))
    about: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "env": env.name,
        "spaces": spaces_of(env),
        **({} if env.num_agents is None else {"num_agents": env.num_agents}),
        "update": player.update,
        **({} if player.member is None else player.member.figures),
        "versions": versions(),
        "call": WITH_MEMORY if has_memory else "(obs) -> action",
        "obs": words(taken[0]),
    }
    if unread.obs:
        about["left_out"] = list(unread.obs)
    if has_memory:
        about["carry"] = words(taken[1])
        about["episode_start"] = "bool[batch]: where it is true, the carry is reset"
    return about


def _check(
    path: Path, loaded: Callable[..., Any], policy: Function, unread: Unread, player: Player
) -> None:
    """Refuses a policy that does not act as the run does, for several numbers of rows."""
    call = jax.jit(loaded)
    for num in (1, 7):
        obs = _observations(player.env, num)
        carry = player.policy.initial_carry(num)
        args = (obs, carry, jnp.arange(num) % 2 == 0) if jax.tree.leaves(carry) else (obs,)
        expected = drop_results(unread, jax.device_get(jax.jit(policy)(*args)))
        actual = jax.tree.leaves(jax.device_get(call(*drop(unread, args))))
        for a, b in zip(jax.tree.leaves(expected), actual, strict=True):
            same = a.dtype == b.dtype and np.allclose(a, b, rtol=1e-5, atol=1e-6)
            require(same, "export", path.name, "does not act as the run does; please report it")


@checked
def main(
    run_dir: Path,
    out: Path | None,
    checkpoint: int | str | None,
    member: Index | None = None,
    setting: Index | None = None,
) -> None:
    """Exports a policy, and prints what was written and how to call it."""
    read_run(run_dir)  # before the backend starts
    backend.start(1, 1)
    out = out or run_dir / "policy.zip"
    which: Any = {"checkpoint": checkpoint, "member": member, "setting": setting}
    found, console = export_policy(run_dir, out, **which), make_console()
    if found.member is not None:
        console.print(str(found.member), soft_wrap=True)
    console.print(
        f"{found.about['env']}, after update {found.about['update']}: {found.about['call']}, "
        f"{found.num_bytes / 1024:.0f} KiB, for {', '.join(PLATFORMS)}\n"
        f"policy: {found.path}",
        soft_wrap=True,
    )
