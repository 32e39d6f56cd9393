"""Runs in environments of several agents: what is logged, and how they go on."""

import functools
from dataclasses import replace

import numpy as np
import pytest

import jaxdrl
from jaxdrl import Experiment
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.settings import with_settings
from probe_agents import last_move_wins, team
from small_runs import PPO, lines_of, run_quietly, stopped_after

TEAM = with_settings(
    Experiment(env="team", total_env_steps=128 * 6, num_eval_episodes=8, algorithm=PPO),
    reproducible=True,
    memory="gru",
    memory_size=4,
)
PLAYED = {"one-program": TEAM, "actors": replace(TEAM, acting=ActingConfig(staleness=1))}


@functools.cache
def whole(name, directory):
    return run_quietly(replace(PLAYED[name], run_dir=directory / f"whole-{name}"), env=team())[0]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("agents")


def test_a_line_has_the_return_of_each_agent_and_their_mean(directory):
    for line in lines_of(whole("one-program", directory).run_dir):
        own = [line[f"agent_{i}_return"] for i in range(3)]
        np.testing.assert_allclose(np.mean(own), line["episode_return"], rtol=1e-5)
        assert line["episode_length"] == 5
        assert own[2] <= 2  # it dies


@pytest.mark.parametrize("name", ["one-program", pytest.param("actors", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(name, directory, tmp_path):
    stopped_after(3, replace(PLAYED[name], run_dir=tmp_path / "run"), env=team())
    run = jaxdrl.resume(tmp_path / "run", env=team(), quiet=True)
    expected = whole(name, directory).result
    for key in ("state_sha256", "evaluation"):
        assert run.result[key] == expected[key]


def test_an_evaluation_of_agents_that_compete_is_against_random_players(tmp_path):
    game = replace(TEAM, env="last_move_wins", total_env_steps=128, run_dir=tmp_path / "run")
    run, output = run_quietly(game, env=last_move_wins())
    assert run.result["evaluation"]["mean_return"] == 0  # agent 0 always wins
    assert "against random players at all other seats" in output
