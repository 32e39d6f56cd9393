"""A version of a policy acts as the agent does, for each kind of observation and action."""

import jax
import numpy as np
import pytest

import jaxdrl
import probe_environments as probes
from followed_runs import make_run
from jaxdrl.analysis.policy_function import policy_function, space_read
from jaxdrl.serving.compiled_policy import CompiledPolicy
from jaxdrl.serving.decisions import LastStep, act, begin_step, rows_of
from jaxdrl.serving.source import Loaded
from small_runs import PPO

MEMORY = {"memory": "lstm", "memory_size": 4, "sequence_length": 4}
KINDS = {
    "continuous": (lambda: jaxdrl.make("Pendulum-v1"), {"normalize_observations": True}),
    "masked": (lambda: probes.masked(jaxdrl.spaces.Discrete(5)), {}),
    "several actions": (probes.multi_discrete, {}),
    "dictionary": (
        probes.dictionary,
        {"critic_only": (probes.dictionary().observation_space.items[0][0],)},
    ),
    "memory": (lambda: probes.recall(3), MEMORY),
}


def loaded_of(env, changes):
    """`(an agent, its learner, the same as a version in use)`."""
    agent = jaxdrl.ppo(env, jaxdrl.with_settings(PPO, **changes))
    learner = agent.init(jax.random.key(0)).learner
    function = policy_function(env, agent.policy, learner)
    policy = CompiledPolicy(function, learner, (1, 64))
    space = space_read(env, function.unread)
    return agent, learner, Loaded(None, None, policy, space, policy.part_of(learner), None)


@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_as_the_agent_does(kind):
    make, changes = KINDS[kind]
    env = make()
    agent, learner, loaded = loaded_of(env, changes)
    own = jax.jit(agent.policy.act, static_argnames="greedy")
    keys = jax.random.split(jax.random.key(0), 1000)
    obs = jax.tree.map(np.asarray, jax.vmap(env.observation_space.sample)(keys))
    start, carry = np.ones(1000, bool), agent.policy.initial_carry(1000)
    expected, _ = own(learner, carry, obs, start, jax.random.key(1), greedy=True)
    for num in (1, 2, 64, 65, 1000):
        rows = rows_of(loaded, jax.tree.map(lambda x, n=num: x[:n].tolist(), obs))
        found = act(loaded, rows.obs, loaded.policy.initial_carry(num), start[:num])
        assert found.action.dtype == expected.dtype
        tolerance = 0 if found.action.dtype.kind in "iu" else 1e-6
        np.testing.assert_allclose(found.action, expected[:num], rtol=tolerance, atol=tolerance)
    if "critic_only" in changes:  # which callers may leave out
        rest = {name: x for name, x in obs.items() if name not in changes["critic_only"]}
        assert set(rows_of(loaded, obs).obs) == set(rows_of(loaded, rest).obs) == set(rest)


def test_the_best_member_of_a_population_in_each_checkpoint(tmp_path):
    sweep = jaxdrl.Sweep({"learning_rate": "log:0.0001:0.01"}, members=3)
    run_dir = make_run(tmp_path / "run", sweep=sweep).run_dir
    obs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    for member in (None, 2):
        with jaxdrl.follow(run_dir, member=member, seconds=1000.0, batch_sizes=(64,)) as policy:
            _, agent, state = jaxdrl.restore(run_dir, member=member)
            start, key = np.zeros(64, bool), jax.random.key(1)
            expected, _ = agent.policy.act(state.learner, (), obs, start, key, greedy=True)
            np.testing.assert_array_equal(policy(obs), expected)
            number = policy.version.member
            assert number == 2 if member is not None else number in range(3)


class Zeros:
    """A policy whose recurrent state begins with zeros."""

    @staticmethod
    def initial_carry(num):
        return np.zeros(num)


@pytest.mark.parametrize(
    "same_policy, num, start, expected",
    [
        (True, 2, [False, True], ([False, True], [5, 6])),  # the network resets the second row
        (True, 2, [True, True], ([True, True], [5, 6])),
        (True, 3, [True, True, True], ([True, True, True], [0, 0, 0])),
        (True, 3, [True, False, True], None),
        (True, 1, [False], None),
        (True, 0, [], ([], [])),
        (False, 2, [False, False], ([True, True], [0, 0])),
        (False, 3, [False, True, False], ([True, True, True], [0, 0, 0])),
    ],
)
def test_where_episodes_begin(same_policy, num, start, expected):
    policy = Zeros()
    last = LastStep(policy if same_policy else Zeros(), 2, np.array([5, 6]))
    found = begin_step(last, policy, num, np.array(start, bool))
    assert (found and tuple(x.tolist() for x in found)) == expected
    begun = begin_step(LastStep(), policy, num, np.array(start, bool))
    assert begun[0].all() and begun[1].tolist() == [0] * num
