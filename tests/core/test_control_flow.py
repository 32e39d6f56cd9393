"""What a GPU runs, run on the CPU: the same numbers, with no loop or branch that waits for data."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core import control_flow
from jaxdrl.envs import vector

CONFIG = with_settings(
    PPOConfig(),
    num_envs=16,
    num_steps=10,
    num_epochs=2,
    num_minibatches=2,
    hidden_sizes=(8,),
    num_shards=4,
)
PLATFORMS = {False: "cpu", True: "gpu"}


@pytest.fixture
def gpu(monkeypatch):
    """Everything is traced as for a GPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def equations(jaxpr):
    """All equations of a jaxpr, those within others too, by an own walk."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def agent_of(mesh=None, **changes):
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=5)
    return jaxdrl.ppo(env, with_settings(CONFIG, **changes), mesh=mesh)


def traced(agent):
    state = jax.eval_shape(agent.init, jax.random.key(0))
    return list(equations(jax.make_jaxpr(agent.train_step)(state).jaxpr))


def names(found):
    return [str(eqn.primitive) for eqn in found]


def test_the_cpu_tests_whether_there_is_anything_to_do():
    found = names(traced(agent_of()))
    assert found.count("while") >= 2  # resets, and values of final observations
    assert "cond" in found  # a gradient that is not finite


def test_nothing_waits_for_data_on_a_gpu(gpu):
    found = traced(agent_of())
    assert not {"while", "cond"} & set(names(found))
    unrolled = [eqn.params["unroll"] for eqn in found if str(eqn.primitive) == "scan"]
    assert {control_flow.STEPS, control_flow.SUMS} <= set(unrolled)


def test_what_is_costly_is_looped_over_on_a_gpu_too(gpu):
    large = with_settings(CONFIG, hidden_sizes=(12_000, 12_000))
    envs = [jaxdrl.make("CartPole-v1", costly_reset=is_costly) for is_costly in (False, True)]
    loops = [
        names(traced(jaxdrl.ppo(env, config))).count("while")
        for env in envs
        for config in (CONFIG, large)
    ]
    assert loops == [0, 1, 1, 2]  # values of a large network, and costly resets


@pytest.mark.parametrize("num_devices", [None, 4])
@pytest.mark.parametrize("reproducible", [False, True])
def test_an_update_is_the_same_but_for_rounding(monkeypatch, num_devices, reproducible):
    results = []
    for on_gpu in (False, True):
        monkeypatch.setattr(jax, "default_backend", lambda on_gpu=on_gpu: PLATFORMS[on_gpu])
        mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)
        agent = agent_of(mesh, reproducible=reproducible)
        state = jax.jit(agent.init)(jax.random.key(1))
        _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
        learner, metrics = jax.jit(agent.learn)(state.learner, trajectory)
        results.append((trajectory, learner.params, metrics))
    cpu, gpu = (jax.tree.leaves(result) for result in results)
    assert results[0][0].truncated.sum() == 32  # at the fifth and the tenth step of all
    for one, other in zip(cpu, gpu, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("is_costly", "computed"), [(False, [[0, 1, 2]]), (True, [[2]])])
def test_rows_on_a_gpu_are_chosen_from_all_unless_they_are_costly(gpu, is_costly, computed):
    asked = []

    def compute(indices):
        jax.debug.callback(lambda i: asked.append(i.tolist()), indices)
        return -indices

    update = jax.jit(partial(vector.update_rows, compute=compute, is_costly=is_costly))
    mask, rows = jnp.array([False, False, True]), jnp.array([1, 2, 3])
    assert update(mask, rows=rows).tolist() == [1, 2, -2]
    jax.effects_barrier()
    assert asked == computed


@pytest.mark.parametrize("on_gpu", [False, True])
def test_what_is_not_wanted_leaves_no_trace(monkeypatch, on_gpu):
    monkeypatch.setattr(jax, "default_backend", lambda: PLATFORMS[on_gpu])

    def spoil(x, key):
        return x * jnp.nan, jax.random.fold_in(key, 1)

    def result(condition):
        choose = jax.jit(
            lambda condition, *operands: control_flow.if_true(condition, spoil, *operands)
        )
        x, key = choose(condition, jnp.ones(2), jax.random.key(3))
        return x.tolist(), jax.random.key_data(key).tolist()

    changed = jax.random.fold_in(jax.random.key(3), 1)
    assert result(False) == ([1.0, 1.0], jax.random.key_data(jax.random.key(3)).tolist())
    x, key = result(True)
    assert np.isnan(x).all()
    assert key == jax.random.key_data(changed).tolist()


def test_only_small_steps_are_repeated(monkeypatch):
    def step(carry, _, num):
        for _ in range(num):
            carry = carry * 2.0
        return carry, None

    def passes(num):
        return control_flow.steps_in_a_pass(partial(step, num=num), jnp.float32(1.0))

    assert (passes(5), control_flow.sums_in_a_pass()) == (1, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    most = control_flow.MAX_EQUATIONS
    assert (passes(most), passes(most + 1)) == (control_flow.STEPS, 1)
    assert control_flow.sums_in_a_pass() == control_flow.SUMS


def test_equations_within_equations_count():
    def looped(x):
        return jax.lax.scan(lambda x, _: (jax.jit(jnp.sin)(x) + 1.0, None), x, length=3)[0]

    # scan; in it jit and add; in the jit sin
    assert control_flow.num_equations(jax.make_jaxpr(looped)(1.0).jaxpr) == 4


def test_a_process_without_a_gpu_is_not_on_one():
    assert control_flow.on_gpu() is False
