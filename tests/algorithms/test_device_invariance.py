"""One answer on any number of devices: the same bits, or in fast mode the same but for rounding."""

import itertools
from functools import lru_cache

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl import DQNConfig, IMPALAConfig, PPOConfig, PQNConfig, SACConfig, TD3Config
from jaxdrl.algorithms.build import build
from jaxdrl.algorithms.sharded import STATE_SPECS
from jaxdrl.config.settings import with_settings
from jaxdrl.core.spaces import Box
from jaxdrl.distributed.groups import map_rows
from jaxdrl.distributed.layout import place
from jaxdrl.runs.metrics_log import sha256
from probe_agents import team

FULLY_OPTIMIZED = True

REPLAY = {
    "num_envs": 16,
    "num_steps": 4,
    "num_gradient_steps": 4,
    "batch_size": 32,
    "buffer_size": 512,
    "learning_starts": 128,
    "n_step": 3,
    "hidden_sizes": (16,),
    "normalize_observations": True,
}
SETTINGS = {
    "CartPole-v1": {"num_envs": 64, "num_steps": 16, "num_accumulation_steps": 2},
    "Pendulum-v1": {  # two environments a shard: sums over time and environments once went astray
        "num_envs": 16,
        "num_steps": 8,
        "num_minibatches": 2,
        "num_accumulation_steps": 2,
        "hidden_sizes": (16,),
        "normalize_observations": True,
        "normalize_rewards": True,
    },
    "MemoryChain-bsuite": {
        "num_envs": 32,
        "num_steps": 8,
        "sequence_length": 4,
        "memory": "gru",
        "memory_size": 16,
        "num_minibatches": 2,
        "hidden_sizes": (16,),
        "correction": "vtrace",
    },
    "Acrobot-v1": {
        "num_envs": 32,
        "num_steps": 8,
        "num_minibatches": 2,
        "num_accumulation_steps": 2,
        "normalize_observations": True,
        "normalize_rewards": True,
    },
    "Breakout-MinAtar": {"num_envs": 16, "num_steps": 8, "num_epochs": 2, "activation": "relu"},
    "Freeway-MinAtar": {
        "num_envs": 16,
        "num_steps": 8,
        "num_minibatches": 4,
        "num_accumulation_steps": 2,
    },
    "Catch-bsuite": {
        "num_envs": 32,
        "num_steps": 8,
        "sequence_length": 4,
        "memory": "gru",
        "memory_size": 16,
        "num_minibatches": 2,
        "hidden_sizes": (16,),
        "torso": "mlp",
        "normalize_observations": True,
        "normalize_rewards": True,
    },
    "team": {  # of three agents, one of which dies
        "num_envs": 16,
        "num_steps": 10,
        "sequence_length": 5,
        "memory": "gru",
        "memory_size": 8,
        "num_minibatches": 2,
        "num_accumulation_steps": 2,
        "hidden_sizes": (16,),
        "normalize_observations": True,
        "normalize_rewards": True,
        "correction": "vtrace",
    },
    "Reacher-misc": {**REPLAY, "num_accumulation_steps": 2},
    "MountainCarContinuous-v0": {**REPLAY, "num_atoms": 11, "critic_layer_norm": True},
    "FourRooms-misc": {
        "num_envs": 16,
        "num_steps": 4,
        "num_gradient_steps": 4,
        "buffer_size": 512,  # which goes round twice
        "learning_starts": 64,
        "n_step": 3,
        "dueling": True,
        "target_update_every": 10,
        "num_accumulation_steps": 2,
    },
}
DEFAULTS = {
    "Acrobot-v1": IMPALAConfig(),
    "Freeway-MinAtar": PQNConfig(exploration_env_steps=2000.0),
    "Catch-bsuite": PQNConfig(exploration_env_steps=2000.0),
    "Reacher-misc": SACConfig(),
    "MountainCarContinuous-v0": TD3Config(max_exploration_noise=0.5),
    "FourRooms-misc": DQNConfig(exploration_env_steps=800.0),
}
"""Where they are not PPO's."""


def confident(params, batch, distribution, value):
    return {"confidence": 0.1 * distribution.log_prob(batch.action) + 0.01 * value**2}


EXTRA_LOSS = {"MemoryChain-bsuite": confident, "team": confident}


def steered_team():
    """A team whose agents choose by the sign of a real number."""
    env = team()

    def step(key, state, action, params):
        return env.step(key, state, (action[:, 0] > 0).astype("int32"), params)

    return env._replace(step=step, action_space=Box(-1.0, 1.0, (1,)))


def agent_on(name, num_devices, **changes):
    mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)
    config = with_settings(DEFAULTS.get(name, PPOConfig()), **SETTINGS[name], **changes)
    given = {"extra_loss": EXTRA_LOSS[name]} if name in EXTRA_LOSS else {}
    env = steered_team() if name == "team" else jaxdrl.make(name)
    return build(env, config, mesh=mesh, **given)


def test_a_sum_in_turn_has_the_bits_of_the_sum_alone():
    """Of few numbers, which XLA would add up in another order in a small loop."""
    x = jax.random.normal(jax.random.key(0), (8, 4, 4))

    @jax.jit
    def of_rows(x):
        always = jax.numpy.arange(x.shape[0]) >= 0
        return map_rows(lambda x: (x.sum(), (x - x.mean()).var()), always, x)

    together = of_rows(x)
    for i in range(8):
        for all_of_them, alone in zip(together, of_rows(x[i : i + 1]), strict=True):
            assert all_of_them[i] == alone[0]


@lru_cache
def start_of(name):
    """What makes a state of these settings, on one device and compiled with little care.

    States that begin on their own devices have the same bits in `test_seam_bits.py` and in the runs
    of runs/test_runs_on_devices.py.
    """
    little = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(agent_on(name, None, reproducible=True).init, compiler_options=little)


@lru_cache
def digest_after_20_updates(name, num_devices):
    """Structure of the state, and digests of it and of every update's metrics, reproducible."""
    agent, metrics = agent_on(name, num_devices, reproducible=True), []
    state = start_of(name)(jax.random.key(0))
    if num_devices is not None:
        state = place(state, jaxdrl.make_mesh(num_devices), STATE_SPECS)

    def keep(_state, of_update):
        metrics.append(jax.device_get(of_update))

    state = jaxdrl.train(agent, state, num_updates=20, on_update=keep)
    return jax.tree.structure(state), sha256(state), [sha256(m) for m in metrics]


def relative_difference(params, others):
    squares = jax.tree.map(lambda x, y: (np.sum((x - y) ** 2), np.sum(y**2)), params, others)
    pairs = jax.tree.leaves(squares, is_leaf=lambda x: isinstance(x, tuple))
    difference, norm = np.sum(np.asarray(pairs), axis=0)
    return np.sqrt(difference / norm)


QUICK = {("team", 1), ("Catch-bsuite", 1), ("Reacher-misc", None)}
"""What is not left to the slow tests: each costs two programs that compile as users' do.

What Pendulum-v1 has, the team has too: sums over time and two environments a shard, minibatches in
parts, real actions, normalised observations and rewards.

PPO on CartPole without a mesh and on two devices is in populations/test_population_bits.py.
"""


@pytest.mark.parametrize(
    ("name", "num_devices"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(SETTINGS, [None, 1, 2, 4])
    ],
)
def test_reproducible_mode_has_the_same_bits_on_any_number_of_devices(name, num_devices):
    assert digest_after_20_updates(name, num_devices) == digest_after_20_updates(name, 8)


def check_fast_mode(name, device_counts, num_seeds=5):
    """One update from the same state, for each seed, agrees with that of one device."""
    start = jax.jit(agent_on(name, None).init)
    params = {}
    for num_devices in (1, *device_counts):
        step, mesh = jax.jit(agent_on(name, num_devices).train_step), jaxdrl.make_mesh(num_devices)
        keys = [jax.random.key(i) for i in range(num_seeds)]
        states = [step(place(start(key), mesh, STATE_SPECS))[0] for key in keys]
        params[num_devices] = jax.device_get([state.learner.params for state in states])
    for num_devices in device_counts:
        for on_many, on_one in zip(params[num_devices], params[1], strict=True):
            assert relative_difference(on_many, on_one) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_one_update_of_fast_mode_agrees_on_any_number_of_devices(name):
    check_fast_mode(name, [2, 4, 8])
