"""The step of an asynchronous run: takes a trajectory, learns from it, and publishes the policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrl.actors.actor_thread import Delivered
from jaxdrl.actors.asynchronous import ActorsState
from jaxdrl.actors.supervisor import Supervisor
from jaxdrl.actors.versions import Versions, published
from jaxdrl.algorithms.acting import acting_part
from jaxdrl.algorithms.training import num_updates_of
from jaxdrl.core.trees import is_key
from jaxdrl.core.types import ActorState, Algorithm, TrainState
from jaxdrl.distributed.layout import is_spec

PARTS = ("environment", "inference", "transfer")
"""Where the time of an actor goes, as `Collected.seconds` has it."""


def compile_learn(algorithm: Algorithm, state: TrainState, mesh: Mesh | None) -> Any:
    """`(learner, replay, steps) -> (learner, replay, metrics)`, which donates learner and replay.

    Args:
      algorithm: from `asynchronous`, of a run whose state is `state`.
      state: on the devices of the learner, or abstract.
      mesh: these devices.
    """
    actor: Any = state.actor
    collect, remember = algorithm.collect, algorithm.remember
    assert collect is not None and remember is not None
    _, steps = jax.eval_shape(collect, acting_part(state.learner), actor.envs)
    if mesh is not None:
        steps = jax.tree.map(
            lambda spec, tree: jax.tree.map(lambda x: _sharded(x, mesh, spec), tree),
            algorithm.trajectory_specs,
            steps,
            is_leaf=is_spec,
        )

    def learn(learner: Any, replay: Any, steps: Any) -> tuple[Any, Any, dict[str, jax.Array]]:
        replay, trajectory = remember(replay, steps)
        learner, metrics = algorithm.learn(learner, trajectory)
        return learner, replay, metrics

    jitted = jax.jit(learn, donate_argnums=(0, 1))
    return jitted.lower(state.learner, actor.replay, steps).compile()


def _sharded(x: Any, mesh: Mesh, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))


class AsynchronousStep:
    """`(state) -> (state, metrics)` for a state whose actor is an `ActorsState`.

    Actors start at the first call, from the state that it gets, and go on from there: every later
    call has to be given the state that the one before returned.

    Args:
      algorithm: from `asynchronous`.
      learn: from `compile_learn`.
      supervisor: of the actors.
      versions: the policies that they act with.
      mesh: the devices of the learner.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        learn: Callable[..., Any],
        supervisor: Supervisor,
        versions: Versions,
        mesh: Mesh | None,
    ) -> None:
        self.algorithm, self.learn, self.mesh = algorithm, learn, mesh
        self.supervisor, self.versions = supervisor, versions
        self.done: int | None = None  # updates, once the actors have started
        self.handed_over = 0.0  # when the last update was handed to the devices
        self.computed: Any = None  # metrics of that update
        self.policies: tuple[Any, ...] = ()
        self.newest: Any = None

    def __call__(self, state: Any) -> tuple[TrainState, dict[str, Any]]:
        """One update.

        Raises:
          NoStepError: where there is no trajectory to learn from; the state is as it was.
        """
        if self.done is None:
            self._start(state)
        assert self.done is not None
        number = self.done + 1
        jax.block_until_ready(self.computed)
        free = time.perf_counter()
        depth = self.supervisor.depth()
        parts = self.supervisor.take(number)
        taken = time.perf_counter()
        specs = self.algorithm.trajectory_specs
        steps = join([part.collected.trajectory for part in parts], specs, self.mesh)
        before = self.handed_over
        before_it: Any = state.actor
        learner, replay, metrics = self.learn(state.learner, before_it.replay, steps)
        self.handed_over, self.computed, self.done = time.perf_counter(), metrics, number
        self.policies = (*self.policies, self.newest)[1:]
        self.newest = published(learner)
        self.versions.publish({number: self.newest}, number + 1)
        envs = _join_envs([part.collected.actor for part in parts])
        actor = ActorsState(envs=envs, policies=self.policies, replay=replay)
        figures = self._figures(parts, number) | {"queue_depth": float(depth)}
        if before:  # of the first update nothing is known yet
            figures["learner_idle_share"] = (taken - free) / (self.handed_over - before)
            figures["seconds_learning"] = max(0.0, free - before)
        metrics = metrics | {name: np.float32(value) for name, value in figures.items()}
        return TrainState(learner=learner, actor=actor), metrics  # type: ignore[arg-type]

    def close(self) -> list[str]:
        """Ends the actors; the names of threads that did not end in time."""
        return self.supervisor.close()

    def _start(self, state: Any) -> None:
        """Starts the actors from a state."""
        done, actor = num_updates_of(state), state.actor
        self.newest = published(state.learner)
        self.policies = actor.policies if done else (self.newest,) * len(actor.policies)
        first = done - len(self.policies)
        known = {max(0, first + i): policy for i, policy in enumerate(self.policies)}
        self.versions.publish(known | {done: self.newest}, done + 1)
        self.done = done
        self.supervisor.start(split_envs(actor.envs, len(self.supervisor.makers)), done + 1)

    def _figures(self, parts: Sequence[Delivered], number: int) -> dict[str, float]:
        """What the actors have done for an update."""
        ages = [number - 1 - part.version for part in parts]
        waiting, acting = (sum(getattr(p, n) for p in parts) for n in ("waiting", "acting"))
        seconds = {
            f"seconds_{name}": sum(part.collected.seconds[name] for part in parts) / len(parts)
            for name in PARTS
        }
        return {
            "staleness_mean": sum(ages) / len(ages),
            "staleness_max": float(max(ages)),
            "actor_idle_share": waiting / max(waiting + acting, 1e-9),
            "num_restarts": float(self.supervisor.num_restarts),
            "discarded_steps": float(self.supervisor.num_discarded),
            "cut_episodes": float(self.supervisor.num_lost),
            **seconds,
        }


def join(trajectories: Sequence[Any], specs: Any, mesh: Mesh | None) -> Any:
    """The whole trajectory, on the devices of the learner, from the part of each actor."""
    whole = trajectories[0]
    if len(trajectories) > 1:
        whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *trajectories)

    def put(spec: PartitionSpec, tree: Any) -> Any:
        return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, spec))

    return jax.tree.map(put, specs, whole, is_leaf=is_spec)


def split_envs(envs: Any, num_parts: int) -> list[ActorState]:
    """Equal parts of the environments, in host memory."""
    host = _on_host(envs)

    def part(x: Any, i: int) -> Any:  # an environment of several agents has several rows
        size = x.shape[0] // num_parts
        return x[i * size : (i + 1) * size]

    return [jax.tree.map(lambda x, i=i: part(x, i), host) for i in range(num_parts)]


def _join_envs(parts: Sequence[Any]) -> ActorState:
    """All environments, from those of each actor, in host memory."""
    return jax.tree.map(_concatenate, *map(_on_host, parts))


def _concatenate(*arrays: Any) -> Any:
    if isinstance(arrays[0], jax.Array):  # keys
        return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _on_host(envs: Any) -> Any:
    """A state of environments as NumPy arrays, but for its keys, which JAX may put anywhere."""
    keys, treedef = jax.tree.flatten(envs)
    impls = [jax.random.key_impl(x) if is_key(x) else None for x in keys]
    host = jax.device_get([jax.random.key_data(x) if is_key(x) else x for x in keys])
    wrapped = [
        x if impl is None else jax.random.wrap_key_data(x, impl=impl)
        for x, impl in zip(host, impls, strict=True)
    ]
    return jax.tree.unflatten(treedef, wrapped)
