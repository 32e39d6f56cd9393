"""The greedy policy as a function of rows, with the learner as an argument."""

import jax
import numpy as np

import jaxdrl
import probe_environments as probes
from jaxdrl.analysis.policy_function import first_observations, policy_function, space_read
from small_runs import PPO

FIRST = probes.dictionary().observation_space.items[0][0]


def made(env, **changes):
    """`(function, agent, two learners)`."""
    agent = jaxdrl.ppo(env, jaxdrl.with_settings(PPO, **changes))
    learners = [agent.init(jax.random.key(seed)).learner for seed in (0, 1)]
    return policy_function(env, agent.policy, learners[0]), agent, learners


def test_it_takes_any_learner_and_leaves_out_what_decides_no_action():
    env = probes.dictionary()
    function, agent, learners = made(env, critic_only=(FIRST,))
    assert function.unread.obs == (FIRST,) and not function.has_memory
    assert FIRST not in function.taken[0] and FIRST in function.shapes[0]
    assert [name for name, _ in space_read(env, function.unread).items] == list(function.taken[0])
    obs = first_observations(env, 6)
    rest = {name: x for name, x in obs.items() if name != FIRST}
    start, key = np.zeros(6, bool), jax.random.key(2)
    for learner in learners:
        expected, _ = agent.policy.act(learner, (), obs, start, key, greedy=True)
        np.testing.assert_array_equal(function.act(learner, obs)[0], expected)
        np.testing.assert_array_equal(function.act_on_taken(learner, rest)[0], expected)


def test_memory_is_an_argument_and_a_result():
    env = jaxdrl.make("CartPole-v1")
    function, agent, (learner, _) = made(env, memory="gru", memory_size=4, sequence_length=4)
    assert function.has_memory and function.unread.carry == ("critic",)
    assert space_read(env, function.unread) == env.observation_space
    obs, carry = first_observations(env, 2), agent.policy.initial_carry(2)
    start = np.array([True, False])
    key = jax.random.key(2)
    expected, after = agent.policy.act(learner, carry, obs, start, key, greedy=True)
    action, own = function.act_on_taken(learner, obs, {"actor": carry["actor"]}, start)
    np.testing.assert_array_equal(action, expected)
    assert list(own) == ["actor"]
    np.testing.assert_array_equal(own["actor"], after["actor"])
