"""The layout of a population's arrays on a mesh, and functions mapped over its members.

Members lie along the mesh axis `population`, if there is one. The other axes follow the layout that
the algorithm of one member declares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrl.core.types import Algorithm
from jaxdrl.distributed.groups import map_rows
from jaxdrl.distributed.layout import REPLICATED, is_spec
from jaxdrl.distributed.mesh import POPULATION_AXIS
from jaxdrl.populations.pbt import ExchangeState
from jaxdrl.populations.state import PopulationState

EACH = PartitionSpec()
"""Layout of what a member has as a whole, such as its hyperparameters."""


def members_axis(mesh: Mesh | None) -> str | None:
    """The mesh axis along which members are sharded, None if they are not."""
    return POPULATION_AXIS if mesh is not None and POPULATION_AXIS in mesh.axis_names else None


def along_members(mesh: Mesh | None, specs: Any) -> Any:
    """The layout of arrays `[P, ...]`, from that of one member."""
    axis = members_axis(mesh)
    return jax.tree.map(lambda spec: PartitionSpec(axis, *spec), specs, is_leaf=is_spec)


def state_specs(mesh: Mesh | None, one: Algorithm, has_exchange: bool) -> Any:
    """`Algorithm.state_specs` of a population, from the algorithm of one member."""
    return PopulationState(
        learner=along_members(mesh, one.state_specs.learner),
        actor=along_members(mesh, one.state_specs.actor),
        hyperparams=along_members(mesh, EACH),
        exchange=exchange_specs(mesh) if has_exchange else None,
    )


def exchange_specs(mesh: Mesh | None) -> Any:
    """The layout of an `ExchangeState`: one key for all members, the rest along them."""
    each: Any = along_members(mesh, EACH)
    key: Any = REPLICATED
    return ExchangeState(key=key, return_sum=each, num_episodes=each, score=each, diverged=each)


def constrain(mesh: Mesh, specs: Any, tree: Any) -> Any:
    """Constrains `tree` to the layout of `specs`, within a jitted function."""

    def put(spec: PartitionSpec, tree: Any) -> Any:
        return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))

    return jax.tree.map(put, specs, tree, is_leaf=is_spec)


def map_members(
    of_member: Callable, mesh: Mesh | None, one_by_one: bool, in_specs: Any, out_specs: Any
) -> Callable:
    """Maps `of_member` over all members, on the devices of the mesh: arrays become `[P, ...]`.

    Args:
      of_member: a function `(hyperparams, learner, ...)` of one member.
      mesh: the devices; None computes on one device.
      one_by_one: whether to compute members one after another, each with the bits it has alone.
      in_specs: layout of the arguments of one member.
      out_specs: layout of the results of one member.
    """

    def of_members(hyperparams: Any, learner: Any, *args: Any) -> Any:
        if not one_by_one:
            return jax.vmap(of_member)(hyperparams, learner, *args)
        always = learner.num_updates >= 0  # which the compiler cannot tell
        return map_rows(of_member, always, hyperparams, learner, *args)

    if mesh is None:
        return of_members
    # Replication is proven where the algorithm is used alone, so it is not checked again here.
    return jax.shard_map(
        of_members,
        mesh=mesh,
        in_specs=along_members(mesh, in_specs),
        out_specs=along_members(mesh, out_specs),
        check_vma=False,
    )
