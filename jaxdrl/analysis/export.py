"""`jaxdrl export`: a policy as one file, for programs with JAX or with ONNX, without jaxdrl."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.analysis import onnx_file, policy_file
from jaxdrl.analysis.policy_file import FORMAT_VERSION, custom_calls_of, load_policy
from jaxdrl.analysis.policy_function import (
    PolicyFunction,
    first_observations,
    policy_function,
    space_read,
)
from jaxdrl.analysis.policy_inputs import (
    Unread,
    alone,
    drop,
    drop_results,
    export_of,
)
from jaxdrl.checks import Index, checked, require
from jaxdrl.core.keys import pinned
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment
from jaxdrl.io.console import make_console, say
from jaxdrl.io.safe_files import replaced
from jaxdrl.runs import backend
from jaxdrl.runs.assemble import spaces_of
from jaxdrl.runs.exports import POLICY_FILE
from jaxdrl.runs.machine import versions
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player
from jaxdrl.runs.run_dir import read_run, require_writable
from jaxdrl.runs.sweep_members import Member

PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that the file runs on."""

CHECKED = (1, 7)
"""The numbers of rows for which an exported policy must act as the run does."""

SUFFIXES = (".zip", onnx_file.SUFFIX)
"""Kinds of file, by their suffix."""

WITH_MEMORY = "(obs, carry, episode_start) -> (action, carry)"
"""How the policy of a recurrent network is called."""


@dataclass(frozen=True)
class Exported:
    """The result of `jaxdrl.export_policy`.

    Attributes:
      path: the file.
      about: content of its `about.json`, or of the properties of an ONNX model.
      num_bytes: size of the file.
      member: the member whose policy it is, if the run is a sweep.
    """

    path: Path
    about: dict[str, Any]
    num_bytes: int
    member: Member | None = None


class Preparation(NamedTuple):
    """What an export needs that is the same for all checkpoints of a run.

    Attributes:
      function: the policy of any learner.
      act: `function.act`, jitted.
      examples: arguments of it after the learner, of `CHECKED` numbers of rows.
    """

    function: PolicyFunction
    act: Callable[..., tuple[Any, ...]]
    examples: list[tuple[Any, ...]]


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
    """Writes the greedy policy of a run, with its observation statistics, as one file.

    It contains a function `(obs) -> action`, or for a recurrent network
    `(obs, carry, episode_start) -> (action, carry)`, for any number of rows. A row is an
    observation of one agent. Entries of a dictionary observation, or of the memory, that the critic
    alone reads are no part of it. The file is read back and must act as the run does.

    The suffix decides the kind. `.zip` is for programs with JAX, on CPU, CUDA and TPU, as
    serialised by `jax.export`: a native program, which you load only if you trust its origin, see
    `jaxdrl.load_policy`. `.onnx` is for programs without JAX; the extra `onnx` writes it, and
    meanwhile nothing may be traced in other threads.

    Args:
      run_dir: directory of the run, which may still be running.
      out: the file, `.zip` or `.onnx`.
      checkpoint: as in `jaxdrl.restore`.
      member: as in `jaxdrl.restore`, for a sweep.
      setting: likewise.
      env: as in `jaxdrl.restore`, for a run with an environment given in Python.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.

    Raises:
      ConfigError: if the directory is not a run or has no valid checkpoint, if the file cannot be
        written, if it does not act as the run does, or if ONNX cannot express the policy.
    """
    path = Path(out)
    _require_kind(path)
    require_writable("out", path)
    overrides = Overrides(env, network, optimizer, make_algorithm)
    player = load_player(run_dir, overrides, "export_policy", checkpoint, member, setting)
    return _export_onnx(player, path) if _is_onnx(path) else _export(player, _prepare(player), path)


class Publisher:
    """Writes the policy file of a run from one of its checkpoints, again and again.

    What is traced and compiled for a run is kept until the next one.

    Args:
      overrides: objects that the run was given in Python.
    """

    def __init__(self, overrides: Overrides) -> None:
        self.overrides = overrides
        self.prepared: tuple[Path, Preparation] | None = None

    @pinned()
    def __call__(self, run_dir: Path, update: int) -> Exported:
        """Exports the policy in a checkpoint, of a sweep that of its best member.

        Raises:
          ConfigError: as `export_policy`.
        """
        player = load_player(run_dir, self.overrides, "export_policy", update)
        if self.prepared is None or self.prepared[0] != run_dir:
            self.prepared = run_dir, _prepare(player)
        return _export(player, self.prepared[1], run_dir / POLICY_FILE)


def _prepare(player: Player) -> Preparation:
    """What the exports of a run's policies need."""
    function = policy_function(player.env, player.policy, player.learner)
    examples = []
    for num in CHECKED:
        obs, start = first_observations(player.env, num), np.arange(num) % 2 == 0
        carry = player.policy.initial_carry(num)
        examples.append((obs, carry, start) if function.has_memory else (obs,))
    return Preparation(function, jax.jit(function.act), examples)


def _export(player: Player, prepared: Preparation, path: Path) -> Exported:
    """Writes the file, once it has been read back and acts as the run does."""
    act, shapes, unread = prepared.function
    policy, taken = partial(act, jax.device_get(player.learner)), drop(unread, shapes)
    program = export_of(alone(policy, shapes, unread), taken, unread, PLATFORMS)
    about = {"format_version": FORMAT_VERSION, **_describe(player, taken, unread)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as unchecked:
        policy_file.write(unchecked, bytes(program.serialize()), about)
        loaded = load_policy(unchecked, custom_calls=custom_calls_of(program))
        _check(path, loaded, prepared, player)
    return Exported(path, about, path.stat().st_size, player.member)


def _export_onnx(player: Player, path: Path) -> Exported:
    """Writes the file as ONNX, once it has been read back and acts as the run does."""
    function = policy_function(player.env, player.policy, player.learner)
    about = _describe(player, function.taken, function.unread) | {"opset": onnx_file.OPSET}
    model = onnx_file.convert(path, function, jax.device_get(player.learner))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as unchecked:
        onnx_file.write(unchecked, model, about)
        onnx_file.check(path, unchecked, function, player)
    return Exported(path, about, path.stat().st_size, player.member)


def _is_onnx(path: Path) -> bool:
    return path.suffix.lower() == onnx_file.SUFFIX


def _require_kind(path: Path) -> None:
    """Raises `ConfigError` unless the name says which kind of file to write."""
    works = f"must end in one of {', '.join(SUFFIXES)}"
    require(path.suffix.lower() in SUFFIXES, "out", str(path), works)
    if _is_onnx(path):
        onnx_file.require_installed(path)


def _describe(player: Player, taken: tuple[Any, ...], unread: Unread) -> dict[str, Any]:
    """Content of `about.json`; arrays, of which those that it takes are `taken`, go by name."""

    def words(x: Any) -> dict[str, str]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(x)
        return {
            jax.tree_util.keystr(path, simple=True, separator=".") or "array": f"{leaf.dtype}"
            f"[batch{''.join(f', {n}' for n in leaf.shape[1:])}]"
            for path, leaf in leaves
        }

    has_memory = len(taken) > 1
    env = player.env._replace(observation_space=space_read(player.env, unread))
    about: dict[str, Any] = {
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


def _check(path: Path, loaded: Callable[..., Any], prepared: Preparation, player: Player) -> None:
    """Refuses a policy that does not act as the run does, for several numbers of rows."""
    call, unread = jax.jit(loaded), prepared.function.unread
    for args in prepared.examples:
        expected = drop_results(unread, jax.device_get(prepared.act(player.learner, *args)))
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
    out = out or run_dir / POLICY_FILE
    _require_kind(out)
    read_run(run_dir)  # before the backend starts
    backend.start(1, 1)
    which: Any = {"checkpoint": checkpoint, "member": member, "setting": setting}
    console = make_console()
    with console.status("exporting"):
        found = export_policy(run_dir, out, **which)
    if found.member is not None:
        say(console, str(found.member))
    where = f"in ONNX's opset {onnx_file.OPSET}" if _is_onnx(out) else f"for {', '.join(PLATFORMS)}"
    say(
        console,
        f"{found.about['env']}, after update {found.about['update']}: {found.about['call']}, "
        f"{found.num_bytes / 1024:.0f} KiB, {where}",
    )
    console.print(f"policy: {found.path}", soft_wrap=True)
