"""Programs are compiled once for the same policy, and let go with it."""

import contextlib
import dataclasses
import gc
import io
import logging
import weakref

import jax
import jax.numpy as jnp
import pytest

import jaxdrl
from jaxdrl.config.search_space import Sweep
from jaxdrl.core.programs import MAX_PROGRAMS, program
from small_runs import CARTPOLE, PPO
from small_sweeps import WAVES, quietly


@contextlib.contextmanager
def compilations():
    """Messages of the programs that are compiled in the block."""
    found, handler = [], logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield found
    finally:
        logger.removeHandler(handler)
        found[:] = [message for message in found if message.startswith("Finished XLA compilation")]


def num_programs():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


def test_the_same_arguments_have_the_same_program():
    def double(scale, x, *, num):
        return jnp.full(num, scale) * x

    with compilations() as found:
        for scale in (2.0, 3.0, 2.0, 3.0):
            assert program(double, ("num",), scale)(jnp.ones(()), num=2).tolist() == [scale] * 2
    assert len([message for message in found if "double" in message]) == 2


def test_programs_that_are_not_used_are_let_go():
    def act(policy, x):
        return policy(x)

    def policy_of(i):
        return lambda x: x + i

    policies = [policy_of(i) for i in range(2 * MAX_PROGRAMS)]
    program(act, (), policies[0])(jnp.zeros(3))
    before = num_programs()
    for policy in policies[1:]:
        program(act, (), policy)(jnp.zeros(3))
    assert num_programs() <= before + MAX_PROGRAMS
    first = weakref.ref(policies[0])
    del policies[0], policy
    gc.collect()
    assert first() is None


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    quietly(jaxdrl.run, dataclasses.replace(CARTPOLE, run_dir=path, checkpoint_every=1))
    return path


def test_a_run_that_is_evaluated_again_is_compiled_once(run_dir):
    first = jaxdrl.evaluate_run(run_dir, num_episodes=16)
    with compilations() as found:
        again = jaxdrl.evaluate_run(run_dir, num_episodes=16)
        jaxdrl.evaluate_run(run_dir, num_episodes=16, seed=1, checkpoint=2)
    assert found == []
    assert again.evaluation.mean_return == first.evaluation.mean_return


def test_another_config_is_another_program(run_dir, tmp_path):
    for changes in ({"env_params": {"max_steps_in_episode": 5}}, {}):
        path = tmp_path / str(len(changes))
        quietly(jaxdrl.run, dataclasses.replace(CARTPOLE, run_dir=path, **changes))
        longest = jaxdrl.evaluate_run(path, num_episodes=64).evaluation.lengths.max()
        assert longest == (5 if changes else 12)


def waves_of(num, run_dir):
    """Runs the first `num` waves of a sweep; programs alive after each."""
    found = []
    for i in range(num):
        sweep = Sweep(WAVES.sweep.ranges, members=num, wave_size=1, wave=i)
        wave = dataclasses.replace(WAVES, algorithm=PPO, sweep=sweep, run_dir=run_dir / str(i))
        with contextlib.redirect_stdout(io.StringIO()):
            jaxdrl.run(dataclasses.replace(wave, total_env_steps=128))
        found.append(num_programs())
    return found


@pytest.mark.parametrize("num", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_programs_do_not_pile_up_over_the_waves_of_a_sweep(num, tmp_path):
    _, *later = waves_of(num, tmp_path)
    assert len(set(later)) == 1
