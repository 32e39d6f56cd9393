"""A policy with memory has a recurrent state for each of those who ask it."""

import jax
import numpy as np
import pytest

import jaxdrl
from followed_runs import OBS, copy_of, make_run, publish
from jaxdrl.errors import ConfigError
from small_runs import PPO

MEMORY = {"memory": "gru", "memory_size": 8, "sequence_length": 4}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    algorithm = jaxdrl.with_settings(PPO, normalize_observations=True, **MEMORY)
    return make_run(tmp_path_factory.mktemp("client") / "run", algorithm=algorithm).run_dir


@pytest.fixture(scope="module")
def policy(run_dir):
    with jaxdrl.follow(run_dir, seconds=1000.0, batch_sizes=(1, 4)) as policy:
        yield policy


@pytest.fixture(scope="module")
def act(run_dir):
    """The run's own policy: `(carry, obs, episode_start) -> (action, carry)`."""
    _, agent, state = jaxdrl.restore(run_dir)
    jitted = jax.jit(agent.policy.act, static_argnames="greedy")
    key = state.learner.key
    return agent.policy.initial_carry, lambda carry, obs, start: jitted(
        state.learner, carry, obs, start, key, greedy=True
    )


def test_rows_side_by_side_act_as_the_run_does(policy, act):
    initial, own = act
    client, carry, rng = policy.client(), initial(5), np.random.default_rng(0)
    actions = set()
    for step in range(12):
        obs = rng.normal(size=(5, 4)).astype(np.float32)
        start = np.array([step == 0, step in (0, 4), step in (0, 9), step == 0, True])
        expected, carry = own(carry, obs, start)
        found = client(obs, start)
        np.testing.assert_array_equal(found, expected)
        actions.update(found.tolist())
    assert actions == {0, 1}


def test_clients_do_not_know_of_each_other(policy, act):
    initial, own = act
    clients = [policy.client() for _ in range(3)]
    carries, rng = [initial(1) for _ in clients], np.random.default_rng(1)
    for step in range(8):
        for i, client in enumerate(clients):
            obs = rng.normal(size=4).astype(np.float32)
            expected, carries[i] = own(carries[i], obs[None], np.array([step == 0]))
            assert client(obs) == expected[0]
    assert clients[0].version == policy.version


def state_of(client):
    return jax.tree.leaves(client.carry)[0]


def test_the_first_call_and_the_one_after_reset_begin_an_episode(policy):
    client = policy.client()
    client(OBS)
    first = state_of(client)
    client(OBS)
    assert not np.array_equal(state_of(client), first)
    client(OBS, episode_start=True)
    np.testing.assert_array_equal(state_of(client), first)
    client(OBS)
    client.reset()
    client(np.stack([OBS, OBS]))
    np.testing.assert_allclose(state_of(client), np.concatenate([first, first]), atol=1e-6)


def test_the_number_of_rows_changes_only_where_episodes_begin(policy):
    client = policy.client()
    client(np.stack([OBS, OBS]))
    with pytest.raises(ConfigError, match=r"obs: has 3 rows, and this client has 2; call reset"):
        client(np.stack([OBS] * 3))
    client(np.stack([OBS] * 3), episode_start=True)
    with pytest.raises(ConfigError, match=r"episode_start = .*an array of them for 3 rows"):
        client(np.stack([OBS] * 3), episode_start=[True])
    with pytest.raises(ConfigError, match="episode_start = 'no'"):
        client(np.stack([OBS] * 3), episode_start="no")


def test_without_a_client_it_is_refused(policy):
    with pytest.raises(ConfigError, match=r"make a client = policy.client\(\) for each player"):
        policy(OBS)


def test_the_recurrent_state_outlives_a_new_version_but_not_another_run(run_dir, tmp_path):
    copy = copy_of(run_dir, tmp_path / "run")
    with jaxdrl.follow(copy, seconds=1000.0, batch_sizes=(1,)) as policy:
        client = policy.client()
        client(OBS)
        first = state_of(client)
        client(OBS)
        second = state_of(client)
        client.reset()
        client(OBS)
        publish(copy, 2)
        policy.look()
        assert client(OBS) == 0 and client.version.update == 2
        np.testing.assert_array_equal(state_of(client), second)
        policy.switch(run_dir)
        client(OBS)
        np.testing.assert_array_equal(state_of(client), first)


def test_a_client_of_a_policy_without_memory(tmp_path):
    run_dir = make_run(tmp_path / "run").run_dir
    with jaxdrl.follow(run_dir, seconds=1000.0, batch_sizes=(1,)) as policy:
        client = policy.client()
        assert client(OBS) == client(OBS) == policy(OBS)
