"""What a run needs on each device, against what there is."""

from __future__ import annotations

import math
import resource
import sys
from dataclasses import dataclass, replace
from typing import Any

import jax
from rich.console import Console

from jaxdrl.config.algorithms import AlgorithmConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.errors import ConfigError
from jaxdrl.populations.state import learner_of
from jaxdrl.runs.assemble import Setup, abstract_state
from jaxdrl.runs.checkpoint import raw
from jaxdrl.runs.host_memory import free_host_memory
from jaxdrl.runs.run_dir import in_words

WORKING_COPIES = 4.5
"""Rollouts that the step takes room for: the compiler's count was 2.7 to 4.5 on gymnax's tasks."""


@dataclass(frozen=True)
class Needs:
    """Bytes on one device.

    Attributes:
      fixed: parameters, optimiser and statistics, and their copy while a checkpoint is written; of
        the members on this device.
      actor: environments, and their copy.
      rollout: the experience of one update.
      working: what the step needs beside the state: the compiler's count, or an estimate.
      is_counted: whether it is the compiler's.
    """

    fixed: int
    actor: int
    rollout: int
    working: int
    is_counted: bool

    @property
    def total(self) -> int:
        """All of it."""
        return self.fixed + self.actor + self.working

    @property
    def least(self) -> int:
        """What no compiler can do without: the state and one rollout."""
        return self.fixed + self.actor + self.rollout


def estimate(setup: Setup) -> Needs:
    """What `setup` will need, from the shapes alone: nothing is compiled."""
    state = abstract_state(setup)
    _, trajectory = jax.eval_shape(setup.algorithm.rollout, learner_of(state), state.actor)
    devices = num_devices(setup)
    rollout = num_bytes(trajectory) // devices
    sweep = setup.experiment.sweep
    along = 1 if sweep is None else math.gcd(devices, sweep.num_members)
    return Needs(
        fixed=2 * num_bytes(state.learner) // along,
        actor=2 * num_bytes(state.actor) // devices,
        rollout=rollout,
        working=int(WORKING_COPIES * rollout),
        is_counted=False,
    )


def count(needs: Needs, compiled: Any) -> Needs:
    """`needs` with the compiler's own count, where it gives one."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return needs
    working = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    working -= analysis.alias_size_in_bytes
    return Needs(needs.fixed, needs.actor, needs.rollout, working, is_counted=True)


def available(setup: Setup) -> int | None:
    """Free bytes on one device, None where nobody says; simulated devices share the host's."""
    if setup.mesh is None:
        return None
    device = setup.mesh.devices.flat[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if device.platform != "cpu":
        return None
    host = free_host_memory()
    return None if host is None else host // int(setup.mesh.devices.size)


Room = tuple[Needs, int | None]
"""What a run needs on each device, and what is free there."""


def plan(setup: Setup, console: Console) -> Room:
    """Says what the run will need, and refuses it where that cannot fit."""
    needs, free = estimate(setup), available(setup)
    console.print(check(setup, needs, free), soft_wrap=True)
    return needs, free


def peak(device: jax.Device) -> int:
    """Bytes in use at most until now: on `device`, or by this process where that does not tell."""
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check(setup: Setup, needs: Needs, free: int | None) -> str:
    """What to say of `needs`.

    Raises:
      ConfigError: if they exceed what is free, with the largest `num_envs` that would fit, or of
        a sweep the largest number of members.
    """
    certain = needs.total if needs.is_counted else needs.least
    if free is not None and certain > free:
        raise ConfigError(
            f"{subject(setup)}: needs {'' if needs.is_counted else 'at least '}"
            f"{in_words(certain)} on each device, and {in_words(free)} are free; "
            f"{advice(setup, needs, free)}"
        )
    by = "counted by the compiler" if needs.is_counted else "estimated"
    state = in_words(needs.fixed + needs.actor)
    return (
        f"memory per device: {in_words(needs.total)} {by} (state {state}, "
        f"rollout {in_words(needs.rollout)}); free: {'unknown' if free is None else in_words(free)}"
    )


def subject(setup: Setup) -> str:
    """The setting that decides how much memory a run needs, and its value."""
    sweep = setup.experiment.sweep
    if sweep is None:
        return f"num_envs = {setup.experiment.algorithm.num_envs}"
    return f"sweep.{'members' if sweep.pbt else 'wave_size'} = {sweep.num_members}"


def advice(setup: Setup, needs: Needs, free: int) -> str:
    """Names the largest `num_envs`, or number of members, that fits into `free` bytes a device."""
    config, sweep = setup.experiment.algorithm, setup.experiment.sweep
    few = ""
    if sweep is not None:
        largest = largest_num_members(setup, needs, free)
        if largest >= (2 if sweep.pbt else 1):
            return f"the largest that fits: {largest}"
        few = f"not even {'two members fit' if sweep.pbt else 'one member fits'}; "
        few += f"of num_envs = {config.num_envs}, "
        needs, free = of_members(setup, needs, 1), free // (2 if sweep.pbt else 1)
    largest = largest_num_envs(config, needs, free)
    if largest == 0:
        words = "not even the smallest number fits: take fewer num_steps or a smaller network"
        return few + words
    return f"{few}the largest that fits: {largest}"


def num_devices(setup: Setup) -> int:
    """Devices that the run is on."""
    return 1 if setup.mesh is None else int(setup.mesh.devices.size)


def of_members(setup: Setup, needs: Needs, num: int) -> Needs:
    """What `num` members of a sweep would need, by what its members do."""
    assert setup.experiment.sweep is not None
    members, devices = setup.experiment.sweep.num_members, num_devices(setup)
    share = num / members
    # Parameters are shared out along the members alone, everything else over all devices.
    fewer = math.gcd(devices, members) / math.gcd(devices, num)
    return replace(
        needs,
        fixed=math.ceil(needs.fixed * share * fewer),
        actor=math.ceil(needs.actor * share),
        rollout=math.ceil(needs.rollout * share),
        working=math.ceil(needs.working * share),
    )


def largest_num_members(setup: Setup, needs: Needs, free: int) -> int:
    """The most members of a sweep that `free` bytes a device hold together, 0 where none does."""
    assert setup.experiment.sweep is not None
    sizes = range(setup.experiment.sweep.num_members, 0, -1)
    return next((n for n in sizes if of_members(setup, needs, n).total <= free), 0)


def wave_size(setup: Setup, needs: Needs, free: int | None) -> int | None:
    """Members of a sweep to train at once: the fewest waves that fit, shared out over devices.

    None where all fit at once, or where nobody says what is free.
    """
    assert setup.experiment.sweep is not None
    members, devices = setup.experiment.sweep.num_members, num_devices(setup)
    if free is None or needs.total <= free:
        return None
    fits = {n for n in range(1, members + 1) if of_members(setup, needs, n).total <= free}
    # A last wave of fewer members may be spread over fewer devices.
    shared = [n for n in fits if (members % n or n) in fits]
    return min(shared, key=lambda n: (-(-members // n), -math.gcd(devices, n), n), default=1)


def in_waves(setup: Setup) -> Experiment:
    """The experiment, whose sweep has a `wave_size` where its members do not fit at once.

    What cannot be shared out, such as members that learn from each other, is left as it is.
    """
    experiment, sweep = setup.experiment, setup.experiment.sweep
    if sweep is None or sweep.pbt or sweep.is_search or sweep.wave_size is not None:
        return experiment
    size = wave_size(setup, estimate(setup), available(setup))
    return replace(experiment, sweep=replace(sweep, wave_size=size))


def largest_num_envs(config: AlgorithmConfig, needs: Needs, free: int) -> int:
    """The largest `num_envs` that `config` allows and `free` bytes a device hold."""
    per_env = (needs.actor + needs.working) / config.num_envs
    multiple = getattr(config, "num_envs_multiple", config.execution.num_shards)
    return max(0, int((free - needs.fixed) / per_env) // multiple * multiple)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of JAX says that a device has no room left."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def num_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, which may be abstract."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda tree: jax.tree.map(raw, tree), tree))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
