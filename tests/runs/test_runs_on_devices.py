"""Runs that go on on another number of devices end with the bits of one that never stopped."""

import dataclasses

import pytest

from jaxdrl.config.experiment import Experiment
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import with_settings
from jaxdrl.runs import pbt_log
from probe_agents import pennies
from small_runs import PPO, read, resumed, run_quietly, stopped_after, without_speed

FULLY_OPTIMIZED = True

pytestmark = pytest.mark.usefixtures("compile_cache")


TASKS = {
    "CartPole-v1": {},
    "Pendulum-v1": {"normalize_observations": True, "normalize_rewards": True},
    "Breakout-MinAtar": {"num_envs": 8, "activation": "relu"},
    "MemoryChain-bsuite": {"memory": "gru", "memory_size": 8, "sequence_length": 4},
}


def test_a_run_with_memory_goes_further_on_another_number_of_devices(tmp_path):
    """In reproducible mode: 3 updates on 2 devices and 2 on 8 are 5 on 8."""
    ppo = with_settings(PPO, reproducible=True, **TASKS["MemoryChain-bsuite"])
    short = Experiment(
        "MemoryChain-bsuite",
        total_env_steps=3 * 128,
        devices=2,
        evaluate_every=1,
        num_eval_episodes=4,
        run_dir=tmp_path / "run",
        algorithm=ppo,
    )
    straight = dataclasses.replace(
        short, devices=8, total_env_steps=640, run_dir=tmp_path / "straight"
    )
    expected = run_quietly(straight)[0].result
    run_quietly(short)
    run, _ = resumed(tmp_path / "run", devices=8, total_env_steps=640)
    assert len(run.state.actor.obs.devices()) == 8
    assert run.result["state_sha256"] == expected["state_sha256"]
    assert read(tmp_path / "run", "config.json")["experiment"]["total_env_steps"] == 640
    assert without_speed(tmp_path / "run") == without_speed(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reproducible", "first", "then"), [(False, 1, 1), (True, 1, 8), (True, 2, 1), (True, 8, 2)]
)
@pytest.mark.parametrize("name", TASKS)
def test_two_updates_and_three_are_five(name, reproducible, first, then, tmp_path):
    ppo = with_settings(PPO, reproducible=reproducible, **TASKS[name])
    updates = 5 * ppo.env_steps_per_update
    whole = Experiment(name, total_env_steps=updates, devices=1, num_eval_episodes=4, algorithm=ppo)
    straight, _ = run_quietly(dataclasses.replace(whole, run_dir=tmp_path / "straight"))
    stopped_after(2, dataclasses.replace(whole, devices=first, run_dir=tmp_path / "stopped"))
    run, _ = resumed(tmp_path / "stopped", devices=then)
    assert run.result["state_sha256"] == straight.result["state_sha256"]
    assert without_speed(tmp_path / "stopped") == without_speed(tmp_path / "straight")


@pytest.mark.slow
def test_a_sweep_goes_further_on_another_number_of_devices(tmp_path):
    """Over two exchanges: 3 updates on 2 devices and 3 on 4 are 6 on 2."""
    ranges = {"learning_rate": "log:0.0001:0.01", "observation_clip": "0.01:1.0"}
    whole = Experiment(
        "CartPole-v1",
        total_env_steps=6 * 128,
        devices=2,
        num_eval_episodes=4,
        algorithm=with_settings(PPO, reproducible=True, normalize_observations=True),
        sweep=Sweep(ranges, members=4, pbt=True, pbt_every=2, pbt_fraction=0.25),
    )
    straight, _ = run_quietly(dataclasses.replace(whole, run_dir=tmp_path / "straight"))
    short = dataclasses.replace(whole, run_dir=tmp_path / "run", total_env_steps=3 * 128)
    run_quietly(short)
    run, _ = resumed(tmp_path / "run", devices=4, total_env_steps=whole.total_env_steps)
    for name in ("state_sha256", "settings", "evaluation"):
        assert run.result[name] == straight.result[name], name
    assert pbt_log.read(tmp_path / "run") == pbt_log.read(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_a_run_against_past_selves_has_the_same_bits_on_any_number_of_devices(memory, tmp_path):
    """A slot is renewed after two updates, and where those ran on one device as on each number."""
    algorithm = with_settings(
        PPO,
        **{"num_envs": 64, "num_shards": 8, "memory": memory, "reproducible": True},
        **{"pool_size": 2, "pool_share": 0.5, "pool_every": 2, "normalize_observations": True},
    )
    env, steps = pennies(7), algorithm.env_steps_per_update
    whole = Experiment(
        env.name, total_env_steps=5 * steps, num_eval_episodes=4, algorithm=algorithm
    )
    digests = []
    for devices in (1, 2, 4, 8):
        experiment = dataclasses.replace(whole, devices=devices, run_dir=tmp_path / str(devices))
        digests.append(run_quietly(experiment, env=env)[0].result["state_sha256"])
    short = dataclasses.replace(whole, total_env_steps=2 * steps, devices=1, run_dir=tmp_path / "s")
    run_quietly(short, env=env)
    run, _ = resumed(tmp_path / "s", devices=4, total_env_steps=5 * steps, env=env)
    assert {*digests, run.result["state_sha256"]} == {digests[0]}
