"""Populations: many members of one algorithm in one program, sharded over the devices of the host.

A member trains as it would alone: a population maps the functions of its algorithm over members,
and is not a second trainer. Members lie along the mesh axis `population`, and the environments of
each member along `data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdrl.checks import checked, require
from jaxdrl.core.types import ActorState, Algorithm, LearnerState, Policy, TrainState
from jaxdrl.distributed.mesh import POPULATION_AXIS
from jaxdrl.errors import ConfigError
from jaxdrl.populations import member_layout
from jaxdrl.populations import pbt as exchanges
from jaxdrl.populations.member_layout import EACH, along_members, map_members, members_axis
from jaxdrl.populations.pbt import Exchange
from jaxdrl.populations.state import PopulationLearner, PopulationState, learner_of, state_of

MakeMember = Callable[[Mapping[str, Any]], Algorithm]


@checked
def population(
    make_member: MakeMember,
    *,
    mesh: Mesh | None = None,
    one_by_one: bool | None = None,
    exchange: Exchange | None = None,
) -> Algorithm:
    """Many members of one algorithm as one `Algorithm` over a `PopulationState`.

    Args:
      make_member: `(hyperparams) -> Algorithm` of one member. Its argument is a dictionary of
        scalars, which may be traced, to be laid over a config: `lambda h: jaxdrl.ppo(env,
        jaxdrl.with_settings(config, **h), mesh=mesh)`.
      mesh: the mesh that `make_member` uses. To shard members, it has an axis `population` as
        well (`jaxdrl.make_mesh(population=4, data=2)`). None computes on one device.
      one_by_one: whether to compute members one after another instead of together. With an
        algorithm in reproducible mode, a member then has the bits of its run alone, on any mesh.
        None acts together, and on a CPU learns one by one, since its caches hold one member.
      exchange: how members exploit each other and explore; None keeps them independent.

    Returns:
      An `Algorithm` whose `init` is `(key, hyperparams) -> state`, with hyperparameters a
      dictionary of arrays `[P]`. Member `i` has the key `jax.random.split(key, P)[i]`; without an
      exchange, keys `[P]` may be given instead. Metrics are `[P]`. The `policy` is that of one
      member: `act` takes the learner of `jaxdrl.member(state, i)`, which holds the hyperparameters
      of that member, and acts as `make_member` of these does.

    Raises:
      ConfigError: from `init`, if hyperparameters are not floats `[P]` of equal length, or if the
        mesh does not divide the members.
    """
    on_cpu = (jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]).platform == "cpu"
    learn_in_turn = on_cpu if one_by_one is None else one_by_one
    # For what no hyperparameter changes: the layout of the state and the metrics.
    one = make_member(_Defaults())
    rollout = partial(_rollout, make_member, one, mesh, one_by_one is True)
    learn = partial(_learn, make_member, one, mesh, learn_in_turn, exchange)
    return Algorithm(
        init=partial(_init, make_member, one, mesh, one_by_one is True, exchange),
        rollout=rollout,
        learn=learn,
        train_step=train_step(rollout, learn),
        policy=_policy(make_member, one),
        state_specs=member_layout.state_specs(mesh, one, exchange is not None),
        trajectory_specs=along_members(mesh, one.trajectory_specs),
        metrics=one.metrics,
        stages=one.stages,
    )


def train_step(rollout: Callable, learn: Callable) -> Callable:
    """The composition of `rollout` and `learn` of a population: `(state) -> (state, metrics)`."""

    def step(state: PopulationState) -> tuple[PopulationState, Any]:
        actor, trajectory = rollout(learner_of(state), state.actor)
        learner, metrics = learn(learner_of(state), trajectory)
        return state_of(learner, actor), metrics

    return step


def _policy(make_member: MakeMember, one: Algorithm) -> Policy:
    """The policy of one member, made from the hyperparameters that its learner holds."""

    def act(learner: LearnerState, *args: Any, **how: Any) -> Any:
        if not isinstance(learner.hyperparams, Mapping):
            raise ConfigError(
                "learner: holds no hyperparameters, which the policy of a member needs; use the "
                "learner of jaxdrl.member(state, i)"
            )
        return make_member(learner.hyperparams).policy.act(learner, *args, **how)

    # A carry begins before there is a learner, and depends on none of its hyperparameters.
    return Policy(initial_carry=one.policy.initial_carry, act=act)


class _Defaults(dict):
    """No hyperparameter varies; one that is read by its name is 1."""

    def __missing__(self, name: str) -> float:
        return 1.0


def _init(
    make_member: MakeMember,
    one: Algorithm,
    mesh: Mesh | None,
    one_by_one: bool,
    exchange: Exchange | None,
    key: jax.Array,
    hyperparams: Mapping[str, Any],
) -> PopulationState:
    values, num_members = check_hyperparams(hyperparams)
    _require_fitting(mesh, exchange, key, values, num_members)

    def of_member(hyperparams: Any, key: jax.Array) -> TrainState:
        try:
            return make_member(hyperparams).init(key)
        except TypeError as error:
            raise ConfigError(f"hyperparams = {sorted(values)}: not taken: {error}") from error

    def of_members(*args: Any) -> TrainState:
        if one_by_one:
            return jax.lax.map(lambda args: of_member(*args), args)
        return jax.vmap(of_member)(*args)

    if mesh is not None:
        of_members = jax.shard_map(
            of_members,
            mesh=mesh,
            in_specs=along_members(mesh, (EACH, EACH)),
            out_specs=along_members(mesh, one.state_specs),
            check_vma=False,
        )
    exchange_key = None if exchange is None else jax.random.fold_in(key, exchanges.STREAM)
    state = of_members(values, key if key.ndim else jax.random.split(key, num_members))
    standing = None if exchange_key is None else exchanges.init(exchange_key, num_members)
    if mesh is not None:  # where an update leaves them, or the second update would compile again
        specs = member_layout.state_specs(mesh, one, exchange is not None)
        where = (specs.hyperparams, specs.exchange)
        values, standing = member_layout.constrain(mesh, where, (values, standing))
    return PopulationState(
        learner=state.learner, actor=state.actor, hyperparams=values, exchange=standing
    )


def _require_fitting(
    mesh: Mesh | None, exchange: Exchange | None, key: jax.Array, values: Any, num_members: int
) -> None:
    """Refuses a key, a mesh or an exchange that does not fit the members."""
    shapes = ((),) if exchange is not None else ((), (num_members,))
    works = f"must be one key, or without an exchange {num_members}, one for each member"
    require(key.shape in shapes, "key.shape", key.shape, works)
    if mesh is not None and POPULATION_AXIS in mesh.axis_names:
        along = mesh.shape[POPULATION_AXIS]
        works = f"must divide the {num_members} members"
        require(num_members % along == 0, "mesh.shape['population']", along, works)
    if exchange is not None:
        exchange.check(values, num_members)


def _rollout(
    make_member: MakeMember,
    one: Algorithm,
    mesh: Mesh | None,
    one_by_one: bool,
    learner: PopulationLearner,
    actor: ActorState,
) -> tuple[ActorState, Any]:
    def act(hyperparams: Any, learner: LearnerState, actor: ActorState) -> Any:
        member = make_member(hyperparams)
        return (member.rollout if member.collect is None else member.collect)(learner, actor)

    def remember(hyperparams: Any, learner: LearnerState, replay: Any, steps: Any) -> Any:
        return make_member(hyperparams).remember(replay, steps)  # type: ignore[misc]

    of_learner, acted = one.state_specs.learner, (one.state_specs.actor, one.trajectory_specs)
    act_all = map_members(act, mesh, one_by_one, (EACH, of_learner, acted[0]), acted)
    if one.remember is None:
        return act_all(learner.hyperparams, learner.members, actor)
    after, steps = act_all(learner.hyperparams, learner.members, replace(actor, replay=()))
    # All members at once, since one by one each buffer would be copied. It only moves data.
    remember_all = map_members(remember, mesh, False, (EACH, of_learner, *acted), acted)
    replay, trajectory = remember_all(learner.hyperparams, learner.members, actor.replay, steps)
    return replace(after, replay=replay), trajectory


def _learn(
    make_member: MakeMember,
    one: Algorithm,
    mesh: Mesh | None,
    one_by_one: bool,
    exchange: Exchange | None,
    learner: PopulationLearner,
    trajectory: Any,
) -> tuple[PopulationLearner, Any]:
    def of_member(hyperparams: Any, learner: LearnerState, trajectory: Any) -> Any:
        return make_member(hyperparams).learn(learner, trajectory)

    in_specs = (EACH, one.state_specs.learner, one.trajectory_specs)
    out_specs = (one.state_specs.learner, EACH)
    members = map_members(of_member, mesh, one_by_one, in_specs, out_specs)
    learners, metrics = members(learner.hyperparams, learner.members, trajectory)
    learner = replace(learner, members=learners)
    if exchange is None:
        return learner, metrics
    return _exchange(exchange, mesh, learner, metrics)


def check_hyperparams(hyperparams: Mapping[str, Any]) -> tuple[dict[str, jax.Array], int]:
    """Hyperparameters as float32 arrays `[P]`, and `P`.

    Raises:
      ConfigError: naming one that is not a float array of that length.
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
            "hyperparams = {}: must have at least one array [P], whose values may be equal"
        )
    return values, num_members


OWN = ("key", "num_updates", "hyperparams", "pool")
"""Fields of a learner that a member keeps when it copies another.

With the pool of another, opponents would be exchanged within games."""


def _exchange(
    config: Exchange, mesh: Mesh | None, learner: PopulationLearner, metrics: dict[str, jax.Array]
) -> tuple[PopulationLearner, dict[str, jax.Array]]:
    """Lets members copy each other when it is time, and adds `parent` to the metrics."""
    assert learner.exchange is not None
    members = learner.members
    copied = {
        field.name: getattr(members, field.name)
        for field in fields(members)
        if field.name not in OWN
    }
    standing = exchanges.observe(learner.exchange, metrics)
    take_over = partial(exchanges.exchange, config, members_axis(mesh))
    if mesh is not None:
        each = along_members(mesh, EACH)
        specs = (member_layout.exchange_specs(mesh), each, each, each)
        take_over = jax.shard_map(
            take_over, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=False
        )
    with jax.named_scope("exchange"):
        standing, hyperparams, copied, parent = take_over(
            standing, learner.hyperparams, copied, members.num_updates
        )
    learner = PopulationLearner(
        members=replace(members, **copied), hyperparams=hyperparams, exchange=standing
    )
    return learner, {**metrics, "parent": parent}
