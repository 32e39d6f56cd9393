"""Populations: many members of one algorithm in one program, sharded over the host.

A member is what it would be alone; a population is those functions mapped over members, no second
trainer. Members lie along the mesh axis `population`, each one's environments along `data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrl.checks import checked, require
from jaxdrl.core.types import ActorState, Algorithm, LearnerState, Policy, TrainState
from jaxdrl.distributed.mesh import DATA_AXIS, POPULATION_AXIS
from jaxdrl.distributed.sharding import in_turn
from jaxdrl.errors import ConfigError
from jaxdrl.populations import pbt as exchanges
from jaxdrl.populations.pbt import Exchange, ExchangeState

MakeAlgorithm = Callable[[Mapping[str, Any]], Algorithm]


@struct.dataclass
class PopulationState:
    """States of `P` members: a `TrainState` with a leading axis, and what it was made with.

    Attributes:
      learner: `[P, ...]`.
      actor: `[P, N, ...]`.
      hyperparams: by name, float32 `[P]`.
      exchange: how members stand for the next exchange, None where there is none.
    """

    learner: LearnerState
    actor: ActorState
    hyperparams: dict[str, jax.Array]
    exchange: ExchangeState | None


@checked
def population(
    make_algorithm: MakeAlgorithm,
    *,
    mesh: Mesh | None = None,
    one_by_one: bool | None = None,
    exchange: Exchange | None = None,
) -> Algorithm:
    """Many members of one algorithm as one `Algorithm` over a `PopulationState`.

    Args:
      make_algorithm: `(hyperparams) -> Algorithm` of one member, from a dictionary of scalars,
        which may be traced, laid over its defaults: `lambda h: jaxdrl.ppo(env,
        dataclasses.replace(config, **h), mesh=mesh)`.
      mesh: the same as in `make_algorithm`, with an axis `population` as well
        (`jaxdrl.make_mesh(population=4, data=2)`) where members are to be sharded; None computes
        on one device.
      one_by_one: compute members one after another instead of together; with an algorithm in
        reproducible mode a member then has the bits of its run alone, on any mesh. None acts
        together, and learns one by one on a CPU, whose caches hold one member.
      exchange: has members learn from each other; None leaves them alone.

    Returns:
      An `Algorithm` whose `init` is `(key, hyperparams) -> state`, with a dictionary of arrays
      `[P]`; member `i` has the key `jax.random.split(key, P)[i]`, or the i-th of keys `[P]`, where
      these are given and there is no exchange. Metrics are `[P]`. Its `policy`
      is that of one member: `act` takes the learner of `jaxdrl.member(state, i)`, which has the
      hyperparameters of that member, and acts as `make_algorithm` of these does.

    Raises:
      ConfigError: from `init`, if hyperparameters are no floats `[P]` of one length, or the mesh
        does not divide the members.
    """
    on_cpu = (jax.devices()[0] if mesh is None else mesh.devices.flat[0]).platform == "cpu"
    learn_in_turn = on_cpu if one_by_one is None else one_by_one
    init = partial(_init, make_algorithm, mesh, one_by_one is True, exchange)

    def rollout(state: PopulationState) -> tuple[PopulationState, Any]:
        def of_member(hyperparams: Any, state: TrainState) -> Any:
            return make_algorithm(hyperparams).rollout(state)

        members = _map(of_member, mesh, one_by_one is True, (TRAIN_STATE, TRAJECTORY))
        trained, trajectory = members(state.hyperparams, _train_state(state))
        return replace(state, actor=trained.actor), trajectory

    def learn(state: PopulationState, trajectory: Any) -> tuple[PopulationState, Any]:
        def of_member(hyperparams: Any, state: TrainState, trajectory: Any) -> Any:
            return make_algorithm(hyperparams).learn(state, trajectory)

        members = _map(of_member, mesh, learn_in_turn, (TRAIN_STATE, MEMBERS))
        trained, metrics = members(state.hyperparams, _train_state(state), trajectory)
        state = replace(state, learner=trained.learner)
        return (state, metrics) if exchange is None else _exchange(exchange, mesh, state, metrics)

    return Algorithm(
        init=init,
        rollout=rollout,
        learn=learn,
        train_step=lambda state: learn(*rollout(state)),
        policy=_policy(make_algorithm),
    )


def _policy(make_algorithm: MakeAlgorithm) -> Policy:
    """That of one member, made from the hyperparameters that its learner has."""

    def act(learner: LearnerState, *args: Any, **how: Any) -> Any:
        if not isinstance(learner.hyperparams, Mapping):
            raise ConfigError(
                "learner: has no hyperparameters, by which the policy of a member acts; take that "
                "of jaxdrl.member(state, i)"
            )
        return make_algorithm(learner.hyperparams).policy.act(learner, *args, **how)

    # A carry is begun before there is a learner, and by none of its hyperparameters.
    return Policy(initial_carry=make_algorithm(_Defaults()).policy.initial_carry, act=act)


class _Defaults(dict):
    """Nothing varied, for what no hyperparameter changes; one that is asked for by name is 1."""

    def __missing__(self, name: str) -> float:
        return 1.0


@checked
def member(state: PopulationState, index: int) -> TrainState:
    """The state of one member, as it would be alone, and its hyperparameters in the learner.

    Args:
      state: of the population.
      index: of the member, from 0.

    Raises:
      ConfigError: if there is no such member.
    """
    num_members = state.learner.num_updates.shape[0]
    works = f"must be from 0 to {num_members - 1}: there are {num_members} members"
    require(0 <= index < num_members, "member", index, works)
    one = TrainState(learner=learners(state), actor=state.actor)
    return jax.tree.map(lambda x: x[index], one)


def learners(state: PopulationState) -> LearnerState:
    """The learners of all members, `[P, ...]`, each with its own hyperparameters to act by."""
    return replace(state.learner, hyperparams=state.hyperparams)


def place(state: PopulationState, mesh: Mesh | None) -> PopulationState:
    """A copy of `state` on the devices of `mesh`, as `jaxdrl.population` has it there."""
    if mesh is None:
        return jax.device_put(state, jax.devices()[0], may_alias=False)
    along = _along_members(mesh, MEMBERS)
    specs = PopulationState(
        learner=along,
        actor=_along_members(mesh, TRAIN_STATE).actor,
        hyperparams=along,
        exchange=None if state.exchange is None else _standing_specs(along),
    )

    def put(spec: PartitionSpec, tree: Any) -> Any:
        return jax.device_put(tree, NamedSharding(mesh, spec), may_alias=False)

    return jax.tree.map(put, specs, state, is_leaf=_is_spec)


def _train_state(state: PopulationState) -> TrainState:
    return TrainState(learner=state.learner, actor=state.actor)


# Where arrays lie: which axis after that of the members is one of environments.

MEMBERS = PartitionSpec()
TRAIN_STATE = TrainState(learner=MEMBERS, actor=PartitionSpec(DATA_AXIS))  # type: ignore[arg-type]
TRAJECTORY = PartitionSpec(None, DATA_AXIS)


def _along_members(mesh: Mesh, specs: Any) -> Any:
    """The layout of `[P, ...]` from that of one member."""
    return jax.tree.map(lambda spec: PartitionSpec(_axis(mesh), *spec), specs, is_leaf=_is_spec)


def _axis(mesh: Mesh | None) -> str | None:
    """The mesh axis along which members are sharded, if they are."""
    return POPULATION_AXIS if mesh is not None and POPULATION_AXIS in mesh.axis_names else None


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)


def _map(of_member: Callable, mesh: Mesh | None, one_by_one: bool, out_specs: Any) -> Callable:
    """`of_member` of every member: arguments and results `[P, ...]`, on the devices of the mesh."""

    def of_members(*args: Any) -> Any:
        if not one_by_one:
            return jax.vmap(of_member)(*args)
        always = args[1].learner.num_updates >= 0
        return in_turn(of_member, always, *args)

    if mesh is None:
        return of_members
    in_specs = _along_members(mesh, (MEMBERS, TRAIN_STATE, TRAJECTORY))

    def on_devices(*args: Any) -> Any:
        # What is replicated is proven to be so where the algorithm is used alone.
        return jax.shard_map(
            of_members,
            mesh=mesh,
            in_specs=in_specs[: len(args)],
            out_specs=_along_members(mesh, out_specs),
            check_vma=False,
        )(*args)

    return on_devices


def _init(
    make_algorithm: MakeAlgorithm,
    mesh: Mesh | None,
    one_by_one: bool,
    exchange: Exchange | None,
    key: jax.Array,
    hyperparams: Mapping[str, Any],
) -> PopulationState:
    values, num_members = check_hyperparams(hyperparams)
    shapes = ((),) if exchange is not None else ((), (num_members,))
    works = f"must be one key, or without an exchange {num_members}, one for each member"
    require(key.shape in shapes, "key.shape", key.shape, works)
    if mesh is not None and POPULATION_AXIS in mesh.axis_names:
        along = mesh.shape[POPULATION_AXIS]
        works = f"must divide the {num_members} members"
        require(num_members % along == 0, "mesh.shape['population']", along, works)
    if exchange is not None:
        exchange.check(values, num_members)

    def of_member(hyperparams: Any, key: jax.Array) -> TrainState:
        try:
            return make_algorithm(hyperparams).init(key)
        except TypeError as error:
            raise ConfigError(f"hyperparams = {sorted(values)}: not taken: {error}") from error

    def of_members(*args: Any) -> TrainState:
        if one_by_one:
            return jax.lax.map(lambda args: of_member(*args), args)
        return jax.vmap(of_member)(*args)

    if mesh is not None:
        specs = _along_members(mesh, (MEMBERS, MEMBERS))
        of_members = jax.shard_map(
            of_members,
            mesh=mesh,
            in_specs=specs,
            out_specs=_along_members(mesh, TRAIN_STATE),
            check_vma=False,
        )
    exchange_key = None if exchange is None else jax.random.fold_in(key, exchanges.STREAM)
    state = of_members(values, key if key.ndim else jax.random.split(key, num_members))
    standing = None if exchange_key is None else exchanges.init(exchange_key, num_members)
    if mesh is not None:  # where an update leaves them, so that the first is compiled for the rest
        along = _along_members(mesh, MEMBERS)
        specs = None if standing is None else _standing_specs(along)
        values, standing = jax.tree.map(
            lambda spec, x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec)),
            (dict.fromkeys(values, along), specs),
            (values, standing),
            is_leaf=_is_spec,
        )
    return PopulationState(
        learner=state.learner, actor=state.actor, hyperparams=values, exchange=standing
    )


def check_hyperparams(hyperparams: Mapping[str, Any]) -> tuple[dict[str, jax.Array], int]:
    """Hyperparameters as float32 `[P]`, and `P`.

    Raises:
      ConfigError: naming the one that is no float array of that length.
    """
    values, num_members = {}, None
    for name, value in hyperparams.items():
        array = value if isinstance(value, jax.Array) else np.asarray(value)
        is_float = jnp.issubdtype(array.dtype, jnp.floating)
        works = "must be floats [P], one for each member; integers and flags shape the program"
        require(
            is_float and array.ndim == 1 and array.size > 0, f"hyperparams.{name}", value, works
        )
        num_members = array.shape[0] if num_members is None else num_members
        works = f"must have {num_members} values, as the others have"
        require(array.shape[0] == num_members, f"hyperparams.{name}", value, works)
        values[name] = jnp.asarray(array, jnp.float32)
    if num_members is None:
        raise ConfigError(
            "hyperparams = {}: must have at least one array [P], of equal values, too"
        )
    return values, num_members


def _exchange(
    config: Exchange, mesh: Mesh | None, state: PopulationState, metrics: dict[str, jax.Array]
) -> tuple[PopulationState, dict[str, jax.Array]]:
    """Has members take over from each other where it is time; `parent` joins the metrics."""
    assert state.exchange is not None
    learner = state.learner
    names = ("params", "opt_state", "obs_statistics", "return_statistics")
    learnt = {name: getattr(learner, name) for name in names}
    standing = exchanges.observe(state.exchange, metrics)
    take_over = partial(exchanges.exchange, config, _axis(mesh))
    if mesh is not None:
        along = _along_members(mesh, MEMBERS)
        specs = (_standing_specs(along), along, along, along)
        take_over = jax.shard_map(
            take_over, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=False
        )
    with jax.named_scope("exchange"):
        standing, hyperparams, learnt, parent = take_over(
            standing, state.hyperparams, learnt, learner.num_updates
        )
    state = replace(
        state,
        learner=replace(learner, **learnt),
        hyperparams=hyperparams,
        exchange=standing,
    )
    return state, {**metrics, "parent": parent}


def _standing_specs(along: PartitionSpec) -> Any:
    return ExchangeState(
        key=PartitionSpec(),  # type: ignore[arg-type]
        return_sum=along,  # type: ignore[arg-type]
        num_episodes=along,  # type: ignore[arg-type]
        score=along,  # type: ignore[arg-type]
        diverged=along,  # type: ignore[arg-type]
    )
