"""The host loop: what the hooks see, when, and that the step compiles once."""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxdrl.algorithms import training
from jaxdrl.algorithms.ppo.algorithm import ppo
from jaxdrl.algorithms.training import run_updates, train
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.spaces import Box, Discrete
from jaxdrl.core.types import Algorithm, Policy
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.envs import Environment
from jaxdrl.errors import ConfigError


@struct.dataclass
class Learner:
    """What the loop reads of a learner."""

    num_updates: jax.Array
    total: jax.Array


@struct.dataclass
class State:
    """What the loop reads of a training state."""

    learner: Learner


def init(key=None):
    del key
    return State(Learner(num_updates=jnp.zeros((), jnp.int32), total=jnp.zeros(4)))


def train_step(state):
    done = state.learner.num_updates + 1
    total = state.learner.total + done.astype(jnp.float32)[None]
    metrics = {"done": done, "loss": 0.5 * total[0], "episode_return_sum": total.sum()}
    return State(Learner(num_updates=done, total=total)), metrics


ADDING = Algorithm(init, None, None, train_step, Policy(None, None), None, None)
"""Adds the number of the update to its state."""


class Recorder:
    """A hook that writes down what it is called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, update, metrics):
        self.calls.append((update, metrics))
        return {"stop": True}, False  # which the loop does not look at

    @property
    def updates(self):
        return [update for update, _ in self.calls]


def test_a_hook_is_called_once_an_update_with_its_metrics():
    hook = Recorder()
    state = train(ADDING, init(), num_updates=4, on_update=hook)
    assert hook.updates == [1, 2, 3, 4]
    assert [metrics["done"] for _, metrics in hook.calls] == [1, 2, 3, 4]
    assert [metrics["loss"] for _, metrics in hook.calls] == [0.5, 1.5, 3.0, 5.0]
    assert int(state.learner.num_updates) == 4
    np.testing.assert_array_equal(state.learner.total, np.full(4, 10.0))


def test_hooks_get_python_counts_and_numpy_values():
    hook = Recorder()
    train(ADDING, init(), num_updates=2, on_update=hook)
    for update, metrics in hook.calls:
        assert type(update) is int
        assert set(metrics) == {"done", "loss", "episode_return_sum"}
        for value in metrics.values():
            assert isinstance(value, np.ndarray | np.generic)
            assert value.shape == ()
        assert metrics["done"].dtype == np.int32


def test_several_hooks_are_called_in_their_order_whatever_they_return():
    order = []

    def hook(name):
        def note(update, metrics):
            order.append((name, update))
            return True

        return note

    train(ADDING, init(), num_updates=2, on_update=[hook("a"), hook("b")])
    assert order == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


@pytest.mark.parametrize("hooks", [None, [], ()])
def test_no_hook_is_needed(hooks):
    assert int(train(ADDING, init(), num_updates=3, on_update=hooks).learner.num_updates) == 3


def test_counting_goes_on_from_the_state():
    hook = Recorder()
    state = train(ADDING, init(), num_updates=2, on_update=hook)
    state = train(ADDING, state, num_updates=1, on_update=hook)
    state = train(ADDING, state, num_updates=3, on_update=hook)
    assert hook.updates == [1, 2, 3, 4, 5, 6]
    straight = train(ADDING, init(), num_updates=6)
    np.testing.assert_array_equal(state.learner.total, straight.learner.total)


@pytest.mark.parametrize("num_updates", [0, -1, 1.0, True, None])
def test_a_bad_number_of_updates_is_refused(num_updates):
    state, hook = init(), Recorder()
    with pytest.raises(ConfigError) as caught:
        train(ADDING, state, num_updates=num_updates, on_update=hook)
    works = "must be an integer of at least 1"
    assert str(caught.value) == f"num_updates = {num_updates!r}: {works}"
    assert hook.calls == []
    assert int(state.learner.num_updates) == 0  # not donated


def test_the_state_is_donated():
    state = init()
    after = train(ADDING, state, num_updates=1)
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(state.learner.total)
    np.testing.assert_array_equal(after.learner.total, np.ones(4))

    step = training.jit_step(ADDING)
    again, _ = step(after)
    with pytest.raises((RuntimeError, ValueError), match="deleted"):
        step(after)
    assert int(again.learner.num_updates) == 2


def test_a_failing_hook_stops_the_training():
    def fail(update, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(ADDING, init(), num_updates=3, on_update=fail)


# The order of events: while the devices compute an update, the host fetches the one before.


class Metric:
    """An array that writes down when it is copied and fetched."""

    def __init__(self, events, update):
        self.events, self.update = events, update

    def copy_to_host_async(self):
        if (f"copy {self.update}") not in self.events:
            self.events.append(f"copy {self.update}")

    def __array__(self, dtype=None, copy=None):
        self.events.append(f"fetch {self.update}")
        return np.float32(self.update)


def events_of(num_updates, done=0):
    events = []
    start = State(Learner(num_updates=jnp.int32(done), total=jnp.zeros(4)))

    def step(count):
        count = done if isinstance(count, State) else count
        events.append(f"step {count + 1}")
        return count + 1, {"loss": Metric(events, count + 1)}

    def hook(update, metrics):
        events.append(f"hook {update}: {metrics['loss']:.0f}")

    assert run_updates(step, start, num_updates=num_updates, on_update=hook) == done + num_updates
    return events


def test_metrics_are_fetched_after_the_next_step_was_started():
    assert events_of(3) == [
        "step 1",
        "copy 1",
        "step 2",
        "copy 2",
        "fetch 1",
        "hook 1: 1",
        "step 3",
        "copy 3",
        "fetch 2",
        "hook 2: 2",
        "fetch 3",
        "hook 3: 3",
    ]


def test_a_single_update_is_delivered_too():
    assert events_of(1, done=7) == ["step 8", "copy 8", "fetch 8", "hook 8: 8"]


def test_metrics_are_fetched_once_for_all_hooks():
    fetched = []
    hooks = [lambda _, metrics: fetched.append(metrics)] * 2
    train(ADDING, init(), num_updates=1, on_update=hooks)
    assert fetched[0] is fetched[1]


# A real algorithm, whose step must compile once: weak types or another sharding of what comes
# back would compile it again at the second call.


def counting_env():
    """Pays 1 for action 1; each episode ends after 4 steps. Its state starts weakly typed."""

    def observe(steps):
        return jnp.stack([steps.astype(jnp.float32), 4.0 - steps.astype(jnp.float32)])

    def reset(key, params):
        steps = jnp.asarray(0)
        return observe(steps), {"steps": steps, "weak": 0.5}

    def step(key, env_state, action, params):
        steps = env_state["steps"] + 1
        state = {"steps": steps, "weak": env_state["weak"] + jnp.float32(0)}
        reward = (action == 1).astype(jnp.float32)
        return observe(steps), state, reward, steps >= 4, jnp.zeros((), bool), {}

    box = Box(0.0, 4.0, (2,))
    return Environment("Counting", reset, step, box, Discrete(2), max_episode_steps=4)


CONFIG = with_settings(
    PPOConfig(),
    num_envs=16,
    num_steps=4,
    num_epochs=1,
    num_minibatches=2,
    hidden_sizes=(4,),
    target_kl=None,
)


def test_ppo_compiles_once_in_five_updates(caplog):
    agent = ppo(counting_env(), CONFIG, mesh=make_mesh(2))
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def counted_step(state):
        return agent.train_step(state)

    state = jax.jit(agent.init)(jax.random.key(0))
    jax.block_until_ready(state)
    hook = Recorder()
    compiled_after = []

    def note_compiles(update, metrics):
        found = [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]
        compiled_after.append([message for message in found if "counted_step" in message])

    with caplog.at_level(logging.WARNING), jax.log_compiles():
        algorithm = agent._replace(train_step=counted_step)
        state = train(algorithm, state, num_updates=5, on_update=[hook, note_compiles])
    assert [len(messages) for messages in compiled_after] == [1, 1, 1, 1, 1]
    assert hook.updates == [1, 2, 3, 4, 5]
    assert int(state.learner.num_updates) == 5
    for _, metrics in hook.calls:
        assert metrics["num_episodes"] == 16
        assert metrics["episode_length_sum"] == 64
        assert all(np.isfinite(value) for value in metrics.values())
