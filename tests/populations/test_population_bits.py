"""Populations under the users' compiler flags, by which equal bits are promised."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest
from test_members import (
    ENV,
    MESHES,
    NUM_MEMBERS,
    alone,
    assert_same_bits,
    check_fast_mode,
    hyperparams,
    plain,
    start,
    together,
)

import jaxdrl
from jaxdrl import DQNConfig, PQNConfig, SACConfig, TD3Config, with_settings
from jaxdrl.algorithms.build import build
from jaxdrl.populations.members import population
from jaxdrl.populations.state import learner_of, member
from probe_agents import pennies

FULLY_OPTIMIZED = True

SLOW = pytest.mark.slow
SLOW_ONES = [pytest.param(name, marks=SLOW) for name in ("8x1", "1x8")]


@pytest.mark.parametrize("name", ["none", "4x2", *SLOW_ONES])
def test_a_member_has_the_bits_of_its_run_alone_in_reproducible_mode(name):
    state = together(name, True)[0]
    for i in range(NUM_MEMBERS):
        own = member(state, i)
        learnt = dataclasses.replace(own.learner, hyperparams=())  # which its config has alone
        assert_same_bits(dataclasses.replace(own, learner=learnt), alone(True)[i])


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_a_member_is_its_run_alone_to_rounding_in_fast_mode(name):
    check_fast_mode(name)


@pytest.mark.slow
def test_members_with_pools_of_past_selves_have_the_bits_of_their_runs_alone():
    config = with_settings(
        jaxdrl.PPOConfig(num_envs=32, num_steps=4, num_epochs=1, num_minibatches=2),
        **{"num_shards": 4, "hidden_sizes": (4,), "reproducible": True},
        **{"pool_size": 2, "pool_share": 0.5, "pool_every": 1},
    )
    mesh = jaxdrl.make_mesh(population=2, data=2)
    values = {"learning_rate": jax.numpy.array([1e-3, 1e-2])}

    def make_member(hyperparams, mesh=mesh):
        return jaxdrl.ppo(pennies(3), with_settings(config, **hyperparams), mesh=mesh)

    agent = population(make_member, mesh=mesh, one_by_one=True)
    state, step = start(agent, values), jaxdrl.jit_step(agent)
    for _ in range(3):
        state, _ = step(state)
    keys = jax.random.split(jax.random.key(0), 2)
    for i in range(2):
        own = make_member({"learning_rate": values["learning_rate"][i]}, mesh=None)
        trained = jaxdrl.train(own, jax.jit(own.init)(keys[i]), num_updates=3)
        found = member(state, i)
        learner = dataclasses.replace(found.learner, hyperparams=())
        assert_same_bits(plain(dataclasses.replace(found, learner=learner)), plain(trained))


REPLAY = {
    **{"num_gradient_steps": 2, "batch_size": 16, "buffer_size": 256, "learning_starts": 128},
    "n_step": 2,
}
OTHERS = {
    "pqn": (PQNConfig(exploration_env_steps=600.0), {"num_minibatches": 2}, "final_epsilon"),
    "dqn": (DQNConfig(exploration_env_steps=600.0), REPLAY, "final_epsilon"),
    "sac": (SACConfig(), REPLAY, "initial_temperature"),
    "td3": (TD3Config(max_exploration_noise=0.3), REPLAY, "target_noise"),
}


@pytest.mark.slow  # that of DQN on a mesh is in test_replay_members.py
@pytest.mark.parametrize("name", OTHERS)
def test_members_of_other_algorithms_have_the_bits_of_their_runs_alone(name):
    config, settings, varied = OTHERS[name]
    sizes = {"num_envs": 16, "num_steps": 8, "hidden_sizes": (8,), "reproducible": True}
    config = with_settings(config, **sizes, **settings)
    env = ENV if name in ("pqn", "dqn") else jaxdrl.make("Pendulum-v1")
    values = hyperparams(8)
    values[varied] = np.linspace(0.01, 0.3, 8, dtype=np.float32)
    del values["entropy_coef"]

    def make(h):
        return build(env, with_settings(config, **h))

    agent = population(make, one_by_one=True)
    state, step = start(agent, values), jax.jit(agent.train_step)
    init = jax.jit(lambda h, key: make(h).init(key))
    step_alone = jax.jit(lambda h, state: make(h).train_step(state))
    own = [{name: value[i] for name, value in values.items()} for i in range(8)]
    keys = jax.random.split(jax.random.key(0), 8)
    alone = [init(h, key) for h, key in zip(own, keys, strict=True)]
    for _ in range(3):
        state, _ = step(state)
        alone = [step_alone(h, one)[0] for h, one in zip(own, alone, strict=True)]
    for i in range(8):
        ours = member(plain(state), i)
        learnt = dataclasses.replace(ours.learner, hyperparams=())
        assert_same_bits(dataclasses.replace(ours, learner=learnt), plain(alone[i]))


@pytest.mark.slow  # for a whole step: test_no_buffer_is_copied in test_replay_members.py
def test_members_one_by_one_do_not_copy_their_buffers():
    config = with_settings(DQNConfig(), **REPLAY | {"buffer_size": 1_000_000}, reproducible=True)
    agent = population(lambda h: jaxdrl.dqn(ENV, with_settings(config, **h)), one_by_one=True)
    values = {"gamma": np.full(2, 0.9, np.float32)}
    state = jax.eval_shape(agent.init, jax.random.key(0), values)
    rollout = jax.jit(agent.rollout, donate_argnums=1)
    memory = rollout.lower(learner_of(state), state.actor).compile().memory_analysis()
    assert memory.argument_size_in_bytes > 2 * 1_000_000 * 24
    assert memory.alias_size_in_bytes > 0.99 * memory.argument_size_in_bytes
    assert memory.temp_size_in_bytes < 2**20


@pytest.mark.parametrize("name", ["4x2", *SLOW_ONES])
def test_exchanges_have_the_same_bits_on_any_mesh(name):
    state, parents = together("none", True)[1:3]
    own = list(range(NUM_MEMBERS))
    assert [p == own for p in parents] == [True, False, True, False]
    assert together(name, True)[2] == parents
    assert_same_bits(together(name, True)[1], state)


COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute)(-start)?\(")
IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")  # jax 0.11


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def first_group(line):
    """The devices of the first of the groups within which a collective joins them."""
    if named := NAMED.search(line):
        axes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        joined = re.findall(r"'(\w+)'", named[2])
        ids = np.arange(math.prod(axes.values())).reshape(list(axes.values()))
        return ids[tuple(slice(None) if name in joined else 0 for name in axes)].ravel().tolist()
    if iota := IOTA.search(line):
        rows, columns = int(iota[1]), int(iota[2])
        ids = np.arange(rows * columns).reshape(numbers(iota[3]))
        ids = ids.transpose(numbers(iota[4])) if iota[4] else ids
        return ids.reshape(rows, columns)[0].tolist()
    return numbers(LISTED.search(line)[1])


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", [0, 1]),
        ("[4,2]<=[8]", [0, 1]),
        ("[2,4]<=[4,2]T(1,0)", [0, 2, 4, 6]),
        ("mesh['population'=4,'data'=2] {'data'}", [0, 1]),
        ("mesh['population'=4,'data'=2] {'population'}", [0, 2, 4, 6]),
    ],
)
def test_groups_are_read_as_every_version_writes_them(groups, first):
    line = f"  %x = f32[8] all-gather(%y), replica_groups={groups}, dimensions={{0}}"
    assert COLLECTIVE.search(line) and first_group(line) == first


def groups_of(program):
    """`(line, devices that one collective joins)` of every collective of a compiled program."""
    lines = [line for line in program.splitlines() if COLLECTIVE.search(line)]
    return [(line, first_group(line)) for line in lines]


@pytest.mark.parametrize("reproducible", [pytest.param(False, marks=SLOW), True])
def test_nothing_crosses_the_population_axis_but_an_exchange(reproducible):
    found = groups_of(together("4x2", reproducible)[3].as_text())
    along_data = [line for line, devices in found if devices == [0, 1]]
    across = [line for line, devices in found if devices != [0, 1]]
    assert along_data and across
    assert [line for line in across if "exchange" not in line] == []
    assert [line for line in along_data if "exchange" in line] == []
