"""Acting and learning at once gives what one thread gives that does both in turn."""

import random
import threading
import time
from functools import cache

import jax
import pytest

from jaxdrl.actors.asynchronous import asynchronous
from jaxdrl.actors.collector import Collected, Collector
from jaxdrl.actors.step import AsynchronousStep, compile_learn
from jaxdrl.actors.supervisor import Supervision, Supervisor
from jaxdrl.actors.versions import Versions
from jaxdrl.algorithms.ppo.algorithm import ppo
from jaxdrl.algorithms.training import NoStepError, jit_step, run_updates
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.errors import ActorError
from probe_environments import constant_reward
from states import bits

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
CONFIG = with_settings(
    PPOConfig(
        num_envs=16,
        num_steps=8,
        num_epochs=2,
        num_minibatches=2,
        normalize_observations=True,
        normalize_rewards=True,
    ),
    hidden_sizes=(8,),
    reproducible=True,
)


@pytest.fixture
def no_thread_is_left():
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("actor-")]
    assert not left


@cache
def plain():
    return ppo(constant_reward(5, "truncated"), CONFIG)


@cache
def jitted_rollout():
    return jax.jit(plain().rollout)


@cache
def learning(bound, num_devices):
    """`(algorithm, compiled learn)` on so many devices."""
    mesh = make_mesh(num_devices)
    algorithm = asynchronous(ppo(constant_reward(5, "truncated"), CONFIG, mesh=mesh), bound)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    return algorithm, compile_learn(algorithm, state, mesh)


def collector(before_each=lambda: None, close=lambda: None):
    """Collects with the algorithm's own rollout."""
    roll, held = jitted_rollout(), []

    def begin(actor, *, anew=False):
        held[:] = [actor]
        return 0

    def collect(policy, alive):
        alive()
        before_each()
        held[0], trajectory = jax.block_until_ready(roll(policy, held[0]))
        seconds = {"environment": 0.1, "inference": 0.0, "transfer": 0.0}
        return Collected(trajectory, held[0], seconds)

    return Collector(begin, collect, close)


def stepping(
    mesh, bound, make=collector, *, is_free=False, interrupted=lambda: False, timeout=60.0
):
    """`(asynchronous algorithm, step)` with an actor beside the devices of the learner."""
    algorithm, learn = learning(0 if is_free else bound, int(mesh.devices.size))
    versions = Versions(bound, is_free=is_free)
    warned = []
    supervision = Supervision("probe", timeout, 2, interrupted, warned.append)
    supervisor = Supervisor([make], [jax.devices()[-1]], versions, supervision)
    return algorithm, AsynchronousStep(algorithm, learn, supervisor, versions, mesh), warned


def started(algorithm, mesh):
    return place(jax.jit(algorithm.init)(jax.random.key(3)), mesh, algorithm.state_specs)


def trained(bound, *, num_updates=6, mesh=None, make=collector, state=None, **options):
    """`(state, metrics of each update)` of acting and learning at once."""
    mesh = make_mesh(2) if mesh is None else mesh
    algorithm, step, warned = stepping(mesh, bound, make, **options)
    seen = []
    try:
        state = started(algorithm, mesh) if state is None else state
        state = run_updates(
            step, state, num_updates=num_updates, on_update=lambda _, metrics: seen.append(metrics)
        )
        return jax.device_get(raw_keys(state)), seen, warned
    finally:
        assert step.close() == []


def raw_keys(state):
    return jax.tree.map(
        lambda x: (
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        state,
    )


@cache
def in_turn(bound, num_updates=6):
    """The same by one thread."""
    algorithm = asynchronous(plain(), bound)
    state = started(algorithm, None)
    step = jit_step(algorithm)
    for _ in range(num_updates):
        state, _ = step(state)
    return jax.device_get(raw_keys(state))


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_the_result_has_the_bits_of_acting_and_learning_in_turn(bound):
    state, seen, _ = trained(bound)
    assert bits(state) == bits(in_turn(bound))
    ages = [float(metrics["staleness_max"]) for metrics in seen]
    assert ages == [float(min(bound, update)) for update in range(6)]


@pytest.mark.parametrize("bound", [1, 3])
def test_timing_and_interruption_change_no_bit(bound):
    delays = random.Random(bound)
    whole = in_turn(bound)
    state, _, _ = trained(bound, make=lambda: collector(lambda: time.sleep(delays.random() / 50)))
    assert bits(state) == bits(whole)
    mesh = make_mesh(4)
    algorithm = asynchronous(plain(), bound)
    half, _, _ = trained(bound, num_updates=2)
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
    half = jax.tree.map(
        lambda shape, x: (
            jax.random.wrap_key_data(x)
            if jax.dtypes.issubdtype(shape.dtype, jax.dtypes.prng_key)
            else x
        ),
        shapes,
        half,
    )
    resumed = place(half, mesh, algorithm.state_specs)
    assert bits(trained(bound, num_updates=4, mesh=mesh, state=resumed)[0]) == bits(whole)


def test_free_mode_keeps_to_its_bound_with_slow_actors_and_with_a_slow_learner():
    def oldest(make, on_update=None):
        mesh = make_mesh(1)
        algorithm, step, _ = stepping(mesh, 2, make, is_free=True)
        ages = []

        def look(update, metrics):
            ages.append(float(metrics["staleness_max"]))
            time.sleep(on_update or 0)

        try:
            run_updates(step, started(algorithm, mesh), num_updates=12, on_update=look)
        finally:
            step.close()
        return max(ages)

    assert oldest(lambda: collector(lambda: time.sleep(0.05))) <= 1
    assert oldest(collector, 0.05) == 2


def failing(times, error=lambda: RuntimeError("the simulator is gone")):
    """Makes collectors, the first of which fail in their third trajectory."""
    made = []

    def make():
        made.append(True)
        calls = []

        def fail():
            calls.append(True)
            if len(made) <= times and len(calls) == 3:
                raise error()

        return collector(fail)

    return make


def test_an_actor_that_fails_is_replaced_and_the_bits_are_the_same():
    state, seen, warned = trained(1, make=failing(1))
    assert bits(state) == bits(in_turn(1))
    assert float(seen[-1]["num_restarts"]) == 1
    assert len(warned) == 1 and "the simulator is gone" in warned[0]


def test_actors_that_fail_again_and_again_end_the_run_and_leave_its_state():
    failed, done = [], []
    mesh = make_mesh(1)

    def always():
        raise RuntimeError("no licence")

    algorithm, step, _ = stepping(mesh, 1, lambda: collector(always))
    state = started(algorithm, mesh)
    before = bits(jax.device_get(raw_keys(state)))
    try:
        after = run_updates(
            step,
            state,
            num_updates=3,
            on_update=lambda update, _: done.append(update),
            on_no_step=failed.append,
        )
    finally:
        step.close()
    cause = failed[0].__cause__
    assert isinstance(cause, ActorError)
    assert "probe: the environments of actor 0 failed (RuntimeError: no licence)" in str(cause)
    assert done == [] and bits(jax.device_get(raw_keys(after))) == before


def test_an_actor_that_hangs_is_replaced():
    over = threading.Event()
    made = []

    def make():
        made.append(True)
        calls = []

        def hang():
            calls.append(True)
            if len(made) == 1 and len(calls) == 3:
                over.wait(20)

        return collector(hang, over.set)

    try:
        state, _, warned = trained(1, make=make, timeout=0.5)
    finally:
        over.set()
    assert bits(state) == bits(in_turn(1))
    assert len(warned) == 1 and "no step was done within 0.5 s" in warned[0]


def test_a_run_that_is_to_end_does_not_wait_for_a_trajectory():
    over = threading.Event()
    mesh = make_mesh(1)
    algorithm, step, _ = stepping(
        mesh, 1, lambda: collector(lambda: over.wait(10)), interrupted=lambda: True
    )
    began = time.monotonic()
    try:
        with pytest.raises(NoStepError):
            step(started(algorithm, mesh))
        assert time.monotonic() - began < 5
    finally:
        over.set()
        step.close()
