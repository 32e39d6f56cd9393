"""What a run needs on each device, counted by hand, and what is refused."""

import types
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxdrl
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from jaxdrl.runs import memory, staging, train_run
from jaxdrl.runs.assemble import assemble
from jaxdrl.runs.memory import MemoryBudget, MemoryEstimate
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.stopping import OutOfMemoryError
from small_runs import PPO

EXPERIMENT = Experiment(env="CartPole-v1", devices=2, num_eval_episodes=4, algorithm=PPO)


@pytest.fixture(scope="module")
def setup():
    return assemble(EXPERIMENT, Overrides(), jaxdrl.make_mesh(2))


def needed(setup):
    """What `setup` needs on each of its devices."""
    return memory.plan(setup.experiment, setup.algorithm, setup.mesh).needed


def test_bytes_of_a_tree_are_those_of_its_arrays():
    tree = {"a": jnp.zeros((3, 4)), "b": jnp.zeros((5,), jnp.uint8), "key": jax.random.key(0)}
    assert memory.num_bytes(tree) == 48 + 5 + 8
    assert memory.num_bytes(jax.eval_shape(lambda: tree)) == 48 + 5 + 8


def test_the_estimate_counts_the_shapes(setup):
    need = needed(setup)
    # Two networks of 4 x 8, 8 x (2 or 1); Adam keeps two more copies and a count of 4 bytes.
    params = (4 * 8 + 8) * 2 + (8 * 2 + 2) + (8 * 1 + 1)
    learner = 3 * 4 * params + 4 + 8 + 4  # the shuffle's key and the count of updates
    assert need.fixed == 2 * learner
    # [8 steps, 8 environments of a device]: obs 16 bytes, 8 fields of 4, 3 of 1.
    assert need.rollout == 8 * 8 * (16 + 8 * 4 + 3)
    assert need.total > need.least > need.fixed + need.actor
    wider = assemble(
        replace(EXPERIMENT, algorithm=replace(PPO, num_envs=64)), Overrides(), setup.mesh
    )
    assert needed(wider).rollout == 4 * need.rollout
    assert needed(wider).fixed == need.fixed


NEEDS = MemoryEstimate(fixed=1000, actor=800, rollout=1600, working=7200, is_counted=True)
"""For 16 environments: 1000 bytes and 500 an environment."""


@pytest.mark.parametrize(("free", "largest"), [(9000, 16), (8999, 8), (5000, 8), (4999, 0)])
def test_the_largest_number_that_fits_is_one_that_the_config_allows(free, largest):
    assert memory.largest_num_envs(PPO, NEEDS, free) == largest


def test_what_fits_is_said_and_what_does_not_is_refused():
    said = memory.check(EXPERIMENT, MemoryBudget(NEEDS, 9000))
    assert said == (
        "memory per device: 8.8 KiB counted by the compiler (state 1.8 KiB, rollout 1.6 KiB); "
        "free: 8.8 KiB"
    )
    with pytest.raises(ConfigError) as caught:
        memory.check(EXPERIMENT, MemoryBudget(NEEDS, 8999))
    assert str(caught.value) == (
        "num_envs = 16: needs 8.8 KiB on each device, and 8.8 KiB are free; "
        "the largest that fits: 8"
    )
    with pytest.raises(ConfigError, match="not even the smallest number fits"):
        memory.check(EXPERIMENT, MemoryBudget(NEEDS, 2000))
    assert memory.check(EXPERIMENT, MemoryBudget(NEEDS, None)).endswith("free: unknown")
    estimated = replace(NEEDS, is_counted=False)  # 3400 bytes are certain, 9000 a guess
    assert "8.8 KiB estimated" in memory.check(EXPERIMENT, MemoryBudget(estimated, 3400))
    with pytest.raises(ConfigError, match=r"needs at least 3\.3 KiB"):
        memory.check(EXPERIMENT, MemoryBudget(estimated, 3399))


SWEEP = Sweep({"gamma": "0.9:0.99"}, members=12)
MEMBERS = MemoryEstimate(fixed=1200, actor=1200, rollout=2400, working=4800, is_counted=True)
"""Of twelve members, two along each of two devices: of each 100, 100 and 400 bytes."""


def of_sweep(**fields):
    return replace(EXPERIMENT, sweep=replace(SWEEP, **fields))


def test_parameters_of_members_lie_on_their_own_device(setup):
    alone = needed(setup)
    experiment = replace(EXPERIMENT, sweep=replace(SWEEP, members=4))
    mesh = jaxdrl.make_mesh(2, population=2)
    population = needed(assemble(experiment, Overrides(), mesh))
    # Beside what one agent has, each has its hyperparameter, which is of no account here.
    assert population.fixed == 2 * alone.fixed
    assert population.rollout == pytest.approx(4 * alone.rollout, rel=0.01)


def test_what_members_need_is_their_share():
    three = memory.of_members(SWEEP, MemoryBudget(MEMBERS, None, 2), 3)
    # An odd number lies along one device, which holds the parameters of all of them.
    assert three == MemoryEstimate(fixed=600, actor=300, rollout=600, working=1200, is_counted=True)
    assert memory.of_members(SWEEP, MemoryBudget(MEMBERS, None, 2), 4).total == 400 + 400 + 1600


@pytest.mark.parametrize(
    ("free", "size"),
    [
        (None, None),
        (7200, None),
        (7199, 6),  # in two waves, and not 10 and 2
        (3599, 4),
        (1800, 2),  # three would need 2100
        (1199, 1),
        (10, 1),  # which is then refused
    ],
)
def test_members_that_do_not_fit_are_shared_out_evenly(free, size):
    assert memory.wave_size(SWEEP, MemoryBudget(MEMBERS, free, 2)) == size


@pytest.mark.parametrize(
    ("fields", "free", "says"),
    [
        ({"pbt": True}, 7199, "sweep.members = 12: needs 7.0 KiB .* the largest that fits: 10"),
        ({"wave_size": 12}, 7199, "sweep.wave_size = 12: needs .* the largest that fits: 10"),
        ({}, 2000, "the largest that fits: 2$"),
        ({}, 699, "not even one member fits; of num_envs = 16, the largest that fits: 8"),
        ({"pbt": True}, 1100, "not even two members fit; .*: 8"),
        ({}, 20, "not even one member fits; .* not even the smallest number fits"),
    ],
)
def test_a_sweep_that_does_not_fit_is_refused_in_terms_of_members(fields, free, says):
    with pytest.raises(ConfigError, match=says):
        memory.check(of_sweep(**fields), MemoryBudget(MEMBERS, free, 2))


# A replay buffer


DQN = DQNConfig(
    num_envs=16,
    num_steps=8,
    buffer_size=4096,
    learning_starts=256,
    execution=ExecutionConfig(num_shards=8),
)
REPLAY = MemoryEstimate(1000, 800, 1600, 7200, is_counted=True, replay=40_960)
"""Of ten bytes a step."""


@pytest.mark.parametrize("copied", [True, False])
def test_the_estimate_has_the_buffer_once_or_twice(monkeypatch, copied):
    monkeypatch.setattr(staging, "STAGED_BYTES", 2**40 if copied else 0)
    mesh = jaxdrl.make_mesh(2)
    need, same = (
        needed(assemble(replace(EXPERIMENT, algorithm=config), Overrides(), mesh))
        for config in (DQN, replace(DQN, buffer_size=2048))
    )
    # Half of the environments; obs 16 bytes, action and reward 4 each, how it goes on 1 byte; of
    # final observations of 500 steps and what they follow there is one in 256 steps. A key of 8
    # bytes is always copied.
    assert need.replay == (1 + copied) * 8 * (256 * 25 + 20 + 12) + 2 * 8 * 8
    assert same.replay == (1 + copied) * 8 * (128 * 25 + 20 + 12) + 2 * 8 * 8
    assert replace(same, replay=need.replay) == need
    assert need.total - need.working == need.fixed + need.actor + need.replay


def test_members_of_a_population_have_a_buffer_each():
    alone = needed(assemble(replace(EXPERIMENT, algorithm=DQN), Overrides(), jaxdrl.make_mesh(2)))
    experiment = replace(EXPERIMENT, algorithm=DQN, sweep=replace(SWEEP, members=4))
    mesh = jaxdrl.make_mesh(2, population=2)
    assert needed(assemble(experiment, Overrides(), mesh)).replay == 4 * alone.replay


@pytest.mark.parametrize(
    ("free", "says"),
    [
        (49_959, r"^buffer_size = 4096: needs 48\.8 KiB .* are free; the largest that fits: 3968$"),
        (11_560, "the largest that fits: 256$"),
        # Learning starts at 256.
        (11_559, r"^num_envs = 16: .*; .* take fewer num_steps, a smaller buffer_size or .*"),
        (8_000, "^num_envs = 16: "),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused_in_terms_of_steps(free, says):
    experiment = replace(EXPERIMENT, algorithm=DQN)
    with pytest.raises(ConfigError, match=says):
        memory.check(experiment, MemoryBudget(REPLAY, free))
    said = memory.check(experiment, MemoryBudget(REPLAY, 49_960))
    assert "(state 1.8 KiB, replay buffer 40.0 KiB, rollout 1.6 KiB)" in said


def test_the_buffers_of_members_that_do_not_fit():
    sweep = replace(EXPERIMENT, algorithm=DQN, sweep=replace(SWEEP, members=2))
    members = replace(REPLAY, **{f: 2 * getattr(REPLAY, f) for f in ("fixed", "actor", "replay")})
    with pytest.raises(ConfigError, match=r"^sweep.wave_size = 2: .* the largest that fits: 1$"):
        memory.check(sweep, MemoryBudget(members, 60_000))
    says = "not even one member fits; of buffer_size = 4096, the largest that fits: 2944$"
    with pytest.raises(ConfigError, match=says):
        memory.check(sweep, MemoryBudget(members, 36_000))


@pytest.mark.usefixtures("no_compile")
def test_a_huge_buffer_is_refused_before_anything_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_host_memory", lambda: 2**30)
    large = replace(DQN, buffer_size=10**10)
    run = replace(EXPERIMENT, run_dir=tmp_path / "run", algorithm=large)
    says = r"^buffer_size = 10000000000: needs at least .* GiB .* the largest that fits: \d+$"
    with pytest.raises(ConfigError, match=says):
        jaxdrl.run(run)
    assert not (tmp_path / "run").exists()


def test_the_count_is_the_compilers():
    analysis = types.SimpleNamespace(
        temp_size_in_bytes=50, output_size_in_bytes=30, alias_size_in_bytes=20
    )
    compiled = types.SimpleNamespace(memory_analysis=lambda: analysis)
    counted = memory.count(MemoryBudget(replace(NEEDS, is_counted=False), 9), compiled)
    assert counted == MemoryBudget(replace(NEEDS, working=60), 9)
    silent = types.SimpleNamespace(memory_analysis=lambda: None)
    assert memory.count(counted, silent) == counted


def test_simulated_devices_share_what_the_host_has_free(setup, monkeypatch):
    assert memory.free_host_memory() > 2**20
    monkeypatch.setattr(memory, "free_host_memory", lambda: 1001)
    assert memory.available(setup.mesh) == 500


def test_the_peak_is_that_of_the_device_or_of_the_process():
    told = types.SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 5, "bytes_in_use": 3})
    assert memory.peak(told) == 5
    for stats in (None, {}, {"bytes_in_use": 3}):
        silent = types.SimpleNamespace(memory_stats=lambda stats=stats: stats)
        lines = Path("/proc/self/status").read_text().splitlines()
        (resident,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        assert memory.peak(silent) == pytest.approx(1024 * int(resident), rel=0.01)


@pytest.mark.usefixtures("no_compile")
def test_a_run_that_cannot_fit_is_refused_before_it_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_host_memory", lambda: 2**20)
    large = replace(EXPERIMENT, run_dir=tmp_path / "run", algorithm=replace(PPO, num_envs=16_384))
    with pytest.raises(ConfigError, match=r"^num_envs = 16384: needs at least .*fits: \d+$"):
        jaxdrl.run(large)
    assert not (tmp_path / "run").exists()


def test_out_of_memory_while_it_trains_says_what_would_fit(tmp_path, monkeypatch):
    def run_out(state):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(train_run, "init_state", lambda *_: no_state())
    monkeypatch.setattr(train_run, "compile_step", lambda *_: Step(run_out))
    with pytest.raises(OutOfMemoryError, match=r"^out of memory with num_envs = 16: RES.*: 8$"):
        jaxdrl.run(replace(EXPERIMENT, run_dir=tmp_path))


class Step:
    """A compiled step that cannot run."""

    def __init__(self, function):
        self.function = function

    def __call__(self, state):
        return self.function(state)

    def memory_analysis(self):
        return None


def no_state():
    learner = types.SimpleNamespace(num_updates=jnp.zeros((), jnp.int32))
    return types.SimpleNamespace(learner=learner)
