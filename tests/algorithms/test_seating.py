"""Which agents past selves decide for, and pools that cannot be."""

import numpy as np
import pytest

import jaxdrl
from jaxdrl.algorithms.seating import NOBODY, make_seating
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from probe_agents import pennies
from probe_environments import counter

CONFIG = jaxdrl.PPOConfig(num_envs=48, pool_size=2, pool_share=0.5)
CONFIG = with_settings(CONFIG, num_shards=2, num_steps=8, num_minibatches=4)


def test_three_agents_in_a_shard_by_hand():
    """Of 24 environments 12 are played against two slots, which see the learner at each seat."""
    seating = make_seating(pennies(3, num_agents=3), CONFIG, 1)
    assert seating.slot.tolist() == [NOBODY] * 12 + [0, 1] * 6
    assert seating.is_learner[:12].all()
    assert seating.is_learner[12:].argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert (seating.is_learner[12:].sum(axis=1) == 1).all()
    assert seating.num_learner_rows == 12 * 3 + 12
    assert seating.slot_rows(1)[1].tolist() == [
        *(40, 41, 45, 47, 51, 52),  # environments 13, 15 and 17, without agents 0, 1 and 2
        *(58, 59, 63, 65, 69, 70),
    ]


@pytest.mark.parametrize("num_shards", [1, 2])
def test_every_row_is_decided_for_once(num_shards):
    seating = make_seating(pennies(3), CONFIG, 1)
    own, others = seating.learner_rows(num_shards), seating.slot_rows(num_shards)
    rows = np.sort(np.concatenate([own, others.reshape(-1)]))
    np.testing.assert_array_equal(rows, np.arange(num_shards * 24 * 2))
    among, against = seating.split_learner_rows(num_shards)
    assert len(among) + len(against) == len(own)
    np.testing.assert_array_equal(own[against] // 2 % 24 >= 12, True)
    np.testing.assert_array_equal(own[among] // 2 % 24 < 12, True)


def test_without_a_pool_nobody_sits_anywhere():
    assert make_seating(pennies(3), with_settings(CONFIG, pool_size=0), 1) is None


OF_SHARD = "of the 24 environments of a shard (num_envs = 48), "
MUST = " must play against the pool, and at least one must not; what works: "
REFUSED = {
    f"pool_share = 0.3: {OF_SHARD}4 or a multiple (pool_size = 2 times 2 agents){MUST}"
    "pool_share = 0.166667 or 0.333333, or num_envs = 80": {"pool_share": 0.3},
    f"pool_share = 0.5: {OF_SHARD}16 or a multiple (pool_size = 8 times 2 agents){MUST}"
    "pool_share = 0.666667, or pool_size = 6, or num_envs = 64": {"pool_size": 8},
    f"pool_share = 0.0: {OF_SHARD}4 or a multiple (pool_size = 2 times 2 agents){MUST}"
    "pool_share = 0.166667": {"pool_share": 0.0},
    f"pool_share = 1.0: {OF_SHARD}24 or a multiple (pool_size = 12 times 2 agents){MUST}"
    "fewer slots, and a pool_share below 1": {"pool_size": 12, "pool_share": 1.0},
    "num_minibatches = 64: must divide the 288 rows of a shard without those of opponents; the "
    "nearest that work: 48 or 72": {"num_minibatches": 64},
    "num_accumulation_steps = 16: must divide the 288 rows of a shard without those of opponents "
    "/ num_minibatches = 72; the nearest that work: 12 or 18": {"num_accumulation_steps": 16},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_pool_that_does_not_divide_is_refused(message, no_compile):
    with pytest.raises(ConfigError) as caught:
        jaxdrl.ppo(pennies(3), with_settings(CONFIG, **REFUSED[message]))
    assert str(caught.value) == message


def test_what_a_message_names_works():
    for share in (0.166667, 0.333333):
        assert make_seating(pennies(3), with_settings(CONFIG, pool_share=share), 1)
    assert make_seating(pennies(3), with_settings(CONFIG, pool_share=0.3, num_envs=80), 1)
    assert make_seating(pennies(3), with_settings(CONFIG, pool_size=6), 1)


def test_a_single_agent_has_no_opponents(no_compile):
    works = "is for environments in which several agents play, and counter has one; must be 0"
    with pytest.raises(ConfigError) as caught:
        jaxdrl.ppo(counter(3), CONFIG)
    assert str(caught.value) == f"pool_size = 2: {works}"
