"""Runs against a pool of past selves: a checkpoint has it.

On any number of devices: `test_runs_on_devices.py`.
"""

import dataclasses

import jax
import numpy as np
import pytest

from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import with_settings
from probe_agents import pennies
from small_runs import PPO, lines_of, resumed, run_quietly, without_speed
from states import bits

pytestmark = pytest.mark.usefixtures("compile_cache")

ENV = pennies(7)
ALGORITHM = with_settings(
    PPO,
    num_envs=32,
    num_shards=4,
    reproducible=True,
    normalize_observations=True,
    pool_size=2,
    pool_share=0.5,
    pool_every=2,
)
WHOLE = Experiment(
    env=ENV.name,
    total_env_steps=5 * ALGORITHM.env_steps_per_update,
    num_eval_episodes=4,
    algorithm=ALGORITHM,
)


def trained(experiment, devices, run_dir):
    return run_quietly(dataclasses.replace(experiment, devices=devices, run_dir=run_dir), env=ENV)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Five updates on four devices."""
    run, _ = trained(WHOLE, 4, tmp_path_factory.mktemp("pool") / "whole")
    return run


def test_two_updates_and_three_are_five(whole, tmp_path):
    """A slot is renewed at the second; its games begin anew."""
    short = dataclasses.replace(WHOLE, total_env_steps=2 * ALGORITHM.env_steps_per_update)
    first, _ = trained(short, 4, tmp_path / "run")
    assert (first.state.learner.pool.renewed, first.state.learner.pool.taken_at[0]) == (0, 2)
    run, _ = resumed(tmp_path / "run", devices=4, total_env_steps=WHOLE.total_env_steps, env=ENV)
    assert run.result["state_sha256"] == whole.result["state_sha256"]
    # But for the evaluation at the end of the first.
    assert without_speed(tmp_path / "run")[2:] == without_speed(whole.run_dir)[2:]
    assert any(line["num_pool_episodes"] > 0 for line in lines_of(whole.run_dir))


def test_a_run_from_another_plays_against_the_policy_that_it_begins_with(whole, tmp_path):
    """Not against the slots of the other run."""
    short = dataclasses.replace(WHOLE, total_env_steps=1, from_run=whole.run_dir)
    run, _ = trained(short, 4, tmp_path / "run")
    start = jax.tree.map(np.asarray, whole.state.learner.params)
    for slot in range(2):
        held = jax.tree.map(lambda x, slot=slot: np.asarray(x)[slot], run.state.learner.pool.params)
        assert bits(held) == bits(start)
