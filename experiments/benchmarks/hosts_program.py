"""Counts what the hosts of a run send each other, from the program that is compiled for them."""

from collections import Counter
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

import jaxdrl
from benchmarks.cases import Case
from benchmarks.hlo import Collectives, count_collectives
from benchmarks.tasks import make_env, ppo_config


def compile_for(case: Case, hosts: int, *, num_shards: int, reproducible: bool) -> str:
    """The compiled update in HLO's notation, one device standing for each host; nothing is run."""
    config = jaxdrl.with_settings(
        ppo_config(case), num_shards=num_shards, reproducible=reproducible
    )
    mesh = jaxdrl.make_mesh(hosts)
    agent = jaxdrl.ppo(make_env(case), config, mesh=mesh)

    def laid_out(spec: PartitionSpec, tree: Any) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    state = jax.eval_shape(agent.init, jax.random.key(0))
    state = jax.tree.map(
        laid_out, agent.state_specs, state, is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    return jaxdrl.jit_step(agent).lower(state).compile().as_text()


def count(case: Case, hosts: int, *, num_shards: int, reproducible: bool) -> Collectives:
    """What an update sends between `hosts`; nothing on a single one."""
    if hosts == 1:
        return Collectives(Counter(), Counter())
    return count_collectives(
        compile_for(case, hosts, num_shards=num_shards, reproducible=reproducible)
    )
