"""How much memory a run needs on each device, against what is free there."""

from __future__ import annotations

import math
import resource
import sys
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.sharding import Mesh

from jaxdrl.actors.asynchronous import ActorsState
from jaxdrl.config.algorithms import AlgorithmConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.replay_sizes import capacity
from jaxdrl.config.search_space import Sweep
from jaxdrl.core.keys import abstract_key
from jaxdrl.core.trees import raw
from jaxdrl.core.types import Algorithm
from jaxdrl.errors import ConfigError
from jaxdrl.io.numerals import size_in_words
from jaxdrl.populations.state import learner_of
from jaxdrl.runs.host_memory import free_host_memory
from jaxdrl.runs.staging import to_copy

WORKING_COPIES = 4.5
"""Rollouts' worth of memory that the step works in: the compiler counted 2.7 to 4.5 on the tasks of
gymnax."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs on one device.

    Attributes:
      fixed: parameters, optimiser and statistics of the members on this device, and the copy that
        is made of them while a checkpoint is written.
      actor: the environments, and their copy; and the trajectories that actors are ahead of the
        learner.
      rollout: the experience of one update.
      working: what the step needs beside the state: the compiler's count, or an estimate.
      is_counted: whether it is the compiler's count.
      replay: the replay buffer, without a copy of what is large in it.
    """

    fixed: int
    actor: int
    rollout: int
    working: int
    is_counted: bool
    replay: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.fixed + self.actor + self.replay + self.working

    @property
    def least(self) -> int:
        """What no compiler can do without: the state and one rollout."""
        return self.fixed + self.actor + self.replay + self.rollout


@dataclass(frozen=True)
class MemoryBudget:
    """What a run needs on each of its devices, and what is free there.

    Attributes:
      needed: what it needs.
      free: free bytes on one device, None where that is unknown.
      num_devices: devices that the run is on.
    """

    needed: MemoryEstimate
    free: int | None
    num_devices: int = 1


def plan(experiment: Experiment, algorithm: Algorithm, mesh: Mesh | None) -> MemoryBudget:
    """The budget of a run, by the shapes of its arrays: nothing is compiled."""
    num_devices = 1 if mesh is None else int(mesh.devices.size)
    needed = estimate(experiment, algorithm, num_devices)
    return MemoryBudget(needed, available(mesh), num_devices)


def estimate(experiment: Experiment, algorithm: Algorithm, num_devices: int) -> MemoryEstimate:
    """What a run will need, by the shapes of its arrays."""
    state = jax.eval_shape(algorithm.init, abstract_key())
    _, trajectory = jax.eval_shape(algorithm.rollout, learner_of(state), state.actor)
    rollout, sweep = num_bytes(trajectory) // num_devices, experiment.sweep
    num_held = experiment.acting.bound + 1 if isinstance(state.actor, ActorsState) else 0
    along = 1 if sweep is None else math.gcd(num_devices, sweep.num_members)
    actor, replay = num_bytes(state.actor), num_bytes(replay_of(state))
    copied = num_bytes(replay_of(to_copy(state)))
    return MemoryEstimate(
        fixed=2 * num_bytes(state.learner) // along,
        actor=2 * (actor - replay) // num_devices + num_held * rollout,
        rollout=rollout,
        working=int(WORKING_COPIES * rollout),
        is_counted=False,
        replay=(replay + copied) // num_devices,
    )


def replay_of(state: Any) -> Any:
    """The replay buffer in a state, `()` without one."""
    return getattr(state.actor, "replay", ())


def count(budget: MemoryBudget, compiled: Any) -> MemoryBudget:
    """The budget with the compiler's own count, where the compiler gives one."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return budget
    working = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    working -= analysis.alias_size_in_bytes
    return replace(budget, needed=replace(budget.needed, working=working, is_counted=True))


def available(mesh: Mesh | None) -> int | None:
    """Free bytes on one device, None where unknown; simulated devices share the host's memory."""
    if mesh is None:
        return None
    device = mesh.local_devices[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if device.platform != "cpu":
        return None
    host = free_host_memory()
    return None if host is None else host // len(mesh.local_devices)


def peak(device: jax.Device) -> int:
    """Peak use in bytes until now: of `device`, or of this process where that has no figure."""
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check(experiment: Experiment, budget: MemoryBudget) -> str:
    """What to print of a budget.

    Raises:
      ConfigError: if the run needs more than is free, naming the largest `num_envs` that would fit,
        or for a sweep the largest number of members.
    """
    needed, free = budget.needed, budget.free
    certain = needed.total if needed.is_counted else needed.least
    if free is not None and certain > free:
        raise ConfigError(
            f"{subject(experiment, budget, free)}: needs {'' if needed.is_counted else 'at least '}"
            f"{size_in_words(certain)} on each device, and {size_in_words(free)} are free; "
            f"{advice(experiment, budget, free)}"
        )
    by = "counted by the compiler" if needed.is_counted else "estimated"
    replay = f"replay buffer {size_in_words(needed.replay)}, " if needed.replay else ""
    return (
        f"memory per device: {size_in_words(needed.total)} {by} (state "
        f"{size_in_words(needed.fixed + needed.actor)}, {replay}rollout "
        f"{size_in_words(needed.rollout)}); "
        f"free: {'unknown' if free is None else size_in_words(free)}"
    )


def subject(experiment: Experiment, budget: MemoryBudget, free: int) -> str:
    """The setting that decides how much memory a run needs, and its value."""
    config, sweep = experiment.algorithm, experiment.sweep
    if sweep is not None:
        return f"sweep.{'members' if sweep.pbt else 'wave_size'} = {sweep.num_members}"
    if largest_buffer_size(config, budget.needed, free):
        return f"buffer_size = {config.buffer_size}"
    return f"num_envs = {config.num_envs}"


def advice(experiment: Experiment, budget: MemoryBudget, free: int) -> str:
    """Names the largest number that fits into `free` bytes a device.

    It is that of the members of a sweep where some of them fit; of the steps in a replay buffer
    where all else fits; and of environments otherwise.
    """
    config, sweep = experiment.algorithm, experiment.sweep
    needed, few, which = budget.needed, "", ""
    if sweep is not None:
        largest = largest_num_members(sweep, budget, free)
        if largest >= (2 if sweep.pbt else 1):
            return f"the largest that fits: {largest}"
        few = f"not even {'two members fit' if sweep.pbt else 'one member fits'}; "
        needed, free = of_members(sweep, budget, 1), free // (2 if sweep.pbt else 1)
    if largest := largest_buffer_size(config, needed, free):
        which = few and f"of buffer_size = {config.buffer_size}, "
        return f"{few}{which}the largest that fits: {largest}"
    which = few and f"of num_envs = {config.num_envs}, "
    largest = largest_num_envs(config, needed, free)
    if largest == 0:
        buffer = ", a smaller buffer_size" if needed.replay else ""
        words = f"take fewer num_steps{buffer} or a smaller network"
        return f"{few}{which}not even the smallest number fits: {words}"
    return f"{few}{which}the largest that fits: {largest}"


def of_members(sweep: Sweep, budget: MemoryBudget, num: int) -> MemoryEstimate:
    """What `num` members of a sweep would need, by what all its members need."""
    needed, members, devices = budget.needed, sweep.num_members, budget.num_devices
    share = num / members
    # Parameters are shared out along the members alone, everything else over all devices.
    fewer = math.gcd(devices, members) / math.gcd(devices, num)
    return replace(
        needed,
        fixed=math.ceil(needed.fixed * share * fewer),
        actor=math.ceil(needed.actor * share),
        rollout=math.ceil(needed.rollout * share),
        working=math.ceil(needed.working * share),
        replay=math.ceil(needed.replay * share),
    )


def largest_num_members(sweep: Sweep, budget: MemoryBudget, free: int) -> int:
    """The most members of a sweep that fit into `free` bytes a device together, 0 if none does."""
    sizes = range(sweep.num_members, 0, -1)
    return next((n for n in sizes if of_members(sweep, budget, n).total <= free), 0)


def wave_size(sweep: Sweep, budget: MemoryBudget) -> int | None:
    """Members of a sweep to train at once: the fewest waves that fit, of equal load on the devices.

    None where all members fit at once, or where it is unknown how much is free.
    """
    members, free = sweep.num_members, budget.free
    if free is None or budget.needed.total <= free:
        return None
    fits = {n for n in range(1, members + 1) if of_members(sweep, budget, n).total <= free}
    # A last wave of fewer members may be spread over fewer devices.
    sizes = [n for n in fits if (members % n or n) in fits]
    devices = budget.num_devices
    return min(sizes, key=lambda n: (-(-members // n), -math.gcd(devices, n), n), default=1)


def in_waves(experiment: Experiment, budget: MemoryBudget) -> Experiment:
    """The experiment, whose sweep has a `wave_size` where its members do not fit at once.

    What cannot be split into waves, such as members that learn from each other, is left as it is.
    """
    sweep = experiment.sweep
    if sweep is None or sweep.pbt or sweep.is_search or sweep.wave_size is not None:
        return experiment
    return replace(experiment, sweep=replace(sweep, wave_size=wave_size(sweep, budget)))


def of_wave(experiment: Experiment, budget: MemoryBudget) -> MemoryBudget:
    """The budget of what is trained at once: of a wave, where the sweep is trained in waves."""
    sweep = experiment.sweep
    if sweep is None or sweep.wave_size is None:
        return budget
    num = min(sweep.wave_size, sweep.num_members)
    return replace(budget, needed=of_members(sweep, budget, num))


def largest_num_envs(config: AlgorithmConfig, needed: MemoryEstimate, free: int) -> int:
    """The largest `num_envs` that `config` allows and that fits into `free` bytes a device."""
    per_env = (needed.actor + needed.working) / config.num_envs
    multiple = getattr(config, "num_envs_multiple", config.execution.num_shards)
    return max(0, int((free - needed.fixed - needed.replay) / per_env) // multiple * multiple)


def largest_buffer_size(config: Any, needed: MemoryEstimate, free: int) -> int:
    """The largest `buffer_size` that `config` allows and that fits into `free` bytes a device.

    0 without a replay buffer, and where all else does not fit or leaves too little for one.
    """
    if not needed.replay:
        return 0
    per_update, held = config.num_envs * config.num_steps, capacity(config) * config.num_envs
    room = free - (needed.total - needed.replay)
    largest = int(room * held / needed.replay) // per_update * per_update
    least = max(config.learning_starts, (config.n_step + 1) * config.num_envs)
    return largest if largest >= least else 0


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of JAX says that a device is out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def num_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, which may be abstract."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda tree: jax.tree.map(raw, tree), tree))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
