"""Games against a pool of past selves: who decides what, what is learned from, and renewals."""

import itertools
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.algorithms.opponents import refilled
from jaxdrl.algorithms.rollout import init_actor
from jaxdrl.algorithms.seating import NOBODY
from jaxdrl.config.settings import with_settings
from probe_agents import pennies
from states import bits

TIME, DRAW, SEAT, COINS = 0, 1, 2, slice(3, 5)
NUM_STEPS, GAME = 4, 7  # games go on over updates, and end at all steps of them
CONFIG = with_settings(
    PPOConfig(num_envs=16, num_steps=NUM_STEPS, num_epochs=1, num_minibatches=2, gamma=0.9),
    num_shards=2,
    pool_size=2,
    pool_share=0.5,
    pool_every=2,
    normalize_observations=True,
    observation_clip=None,
)
SLOT = np.tile([NOBODY] * 4 + [0, 1, 0, 1], 2)
"""Of each of the eight environments of both shards."""
SEATS = np.tile([0, 1] * 4 + [0, 0, 1, 1], 2)
"""Of each row that the learner decides for."""
SLOT_OF_ROW = np.tile([NOBODY] * 8 + [0, 1, 0, 1], 2)

# Half the time to compile.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Linear(nn.Module):
    """A network that is quick to compile and easy to repeat in NumPy."""

    @nn.compact
    def __call__(self, obs):
        """`(policy outputs, value)`."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.normal(0.5))
        return dense(2, name="policy")(obs), dense(1, name="value")(obs)[:, 0]


def outputs_of(learner, obs):
    """`(logits, value)`, in NumPy."""
    statistics, layers = learner.obs_statistics, learner.params
    x = (obs - statistics.mean) / np.sqrt(statistics.variance + 1e-8)
    logits, value = (
        x @ layers[name]["kernel"] + layers[name]["bias"] for name in ("policy", "value")
    )
    return logits, value[..., 0]


@pytest.fixture(scope="module")
def agent():
    made = jaxdrl.ppo(pennies(GAME), CONFIG, network=Linear())
    return SimpleNamespace(
        env=pennies(GAME), init=jit(made.init), rollout=jit(made.rollout), learn=jit(made.learn)
    )


@pytest.fixture(scope="module")
def updates(agent):
    """Seven updates: what each began with, its trajectory, its metrics and the state after it."""
    state, found = agent.init(jax.random.key(0)), []
    for _ in range(7):
        actor, trajectory = agent.rollout(state.learner, state.actor)
        learner, metrics = agent.learn(state.learner, trajectory)
        after = state.replace(learner=learner, actor=actor)
        found.append(
            {"before": state, "trajectory": trajectory, "metrics": metrics, "after": after}
        )
        state = after
    return jax.tree.map(in_numpy, found)


def in_numpy(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def always(learner, coins):
    """The learner with slots that show these coins, whatever they see."""
    params = jax.tree.map(jnp.zeros_like, learner.pool.params)
    bias = jnp.stack([jnp.array([100.0 * (1 - c), 100.0 * c]) for c in coins])
    params["policy"]["bias"] = bias
    return replace(learner, pool=replace(learner.pool, params=params))


def by_statistics(learner, coins):
    """The learner with slots that differ in their statistics alone and so show these coins."""
    learner = always(learner, [0, 0])
    policy = learner.pool.params["policy"]
    policy["bias"] = jnp.zeros_like(policy["bias"])
    policy["kernel"] = policy["kernel"].at[:, DRAW, 1].set(100.0)
    old = learner.pool.obs_statistics
    mean = old.mean.at[:, DRAW].set(jnp.array([2.0 - 4 * c for c in coins]))
    statistics = replace(old, mean=mean)
    return replace(learner, pool=replace(learner.pool, obs_statistics=statistics))


@pytest.mark.parametrize("of_slots", [always, by_statistics])
def test_each_slot_shows_its_own_coins_in_its_own_games(agent, of_slots):
    state = agent.init(jax.random.key(1))
    _, trajectory = agent.rollout(of_slots(state.learner, [0, 1]), state.actor)
    in_pool = SLOT_OF_ROW != NOBODY
    seats = np.asarray(trajectory.obs[0, :, SEAT])
    np.testing.assert_array_equal(seats, SEATS)
    coin = np.asarray(trajectory.action)
    right = np.where(seats == 0, 1, -1) * np.where(coin == SLOT_OF_ROW, 1, -1)
    np.testing.assert_array_equal(trajectory.reward[:, in_pool], right[:, in_pool])
    shown = np.asarray(trajectory.obs[1:, :, COINS])[:, in_pool]
    other = np.take_along_axis(shown, (1 - seats[in_pool, None]).astype(int)[None], axis=2)
    np.testing.assert_array_equal(other[..., 0], np.tile(SLOT_OF_ROW[in_pool], (3, 1)))


def test_the_learner_decides_for_all_other_rows(updates):
    for update in updates:
        learner, trajectory = update["before"].learner, update["trajectory"]
        np.testing.assert_array_equal(trajectory.obs[0, :, SEAT], SEATS)
        logits, value = outputs_of(learner, trajectory.obs)
        logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        chosen = np.take_along_axis(logits, trajectory.action[..., None], -1)[..., 0]
        np.testing.assert_allclose(trajectory.log_prob, chosen, atol=1e-5)
        np.testing.assert_allclose(trajectory.value, value, atol=1e-4)


def test_nothing_is_learned_from_opponents(agent, updates):
    """A shard's rows are those of 4 environments among the learner and of 4 single agents."""
    state = agent.init(jax.random.key(0))
    _, trajectory = agent.rollout(state.learner, state.actor)
    assert trajectory.reward.shape == (NUM_STEPS, 2 * (4 * 2 + 4))
    expected = updates[0]["after"].learner
    learner, _ = agent.learn(always(state.learner, [0, 1]), trajectory)
    assert bits(learner.params) == bits(expected.params)
    assert bits(learner.obs_statistics) == bits(expected.obs_statistics)
    rows = trajectory.obs.reshape(-1, 5)
    np.testing.assert_allclose(learner.obs_statistics.mean, rows.mean(0), atol=1e-5)


def test_slots_are_renewed_in_turn_after_updates(updates):
    taken, renewed = [], []
    for number, update in enumerate(updates, start=1):
        learner, before = update["after"].learner, update["before"].learner
        pool = learner.pool
        taken.append(pool.taken_at.tolist())
        renewed.append(int(pool.renewed))
        for slot in range(2):
            held = jax.tree.map(lambda x, slot=slot: x[slot], (pool.params, pool.obs_statistics))
            kept = (before.pool.params, before.pool.obs_statistics)
            kept = jax.tree.map(lambda x, slot=slot: x[slot], kept)
            is_new = taken[-1][slot] == number
            assert bits(held) == bits((learner.params, learner.obs_statistics) if is_new else kept)
    assert taken == [[0, 0], [2, 0], [2, 0], [2, 4], [2, 4], [6, 4], [6, 4]]
    assert renewed == [NOBODY, 0, NOBODY, 1, NOBODY, 0, NOBODY]


def test_games_of_a_renewed_slot_begin_anew_and_no_others(agent, updates):
    for earlier, update in itertools.pairwise(updates):
        slot = int(update["before"].learner.pool.renewed)
        begins = (slot != NOBODY) & (slot == SLOT_OF_ROW)
        trajectory, actor = update["trajectory"], update["before"].actor
        rows = np.flatnonzero(np.isin(np.arange(32), rows_of_learner()))
        waiting = actor.obs[rows]
        np.testing.assert_array_equal(trajectory.obs[0][~begins], waiting[~begins])
        ended = (earlier["trajectory"].terminated | earlier["trajectory"].truncated)[-1]
        np.testing.assert_array_equal(trajectory.episode_start[0], ended | begins)
        np.testing.assert_array_equal(trajectory.episode_length[0][begins], 1)
        assert (trajectory.obs[0][begins, DRAW] != waiting[begins, DRAW]).all()
        # Learning has lost nothing: the last value is that of the observation that was left.
        _, value = outputs_of(earlier["before"].learner, waiting)
        last = earlier["trajectory"].next_value[-1]
        np.testing.assert_allclose(last[~ended], value[~ended], atol=1e-4)


def rows_of_learner():
    """By hand: both agents of the first four environments, and one of each of the others."""
    shard = [*range(8), 8 + 0, 10 + 0, 12 + 1, 14 + 1]
    return [*shard, *(16 + row for row in shard)]


def test_a_restart_is_that_of_new_environments_from_their_own_keys(agent):
    state = agent.init(jax.random.key(3))
    actor, _ = agent.rollout(state.learner, state.actor)
    renewed = replace(state.learner.pool, renewed=jnp.int32(1))
    fresh = init_actor(agent.env, lambda num: (), jax.random.clone(actor.key))

    def choose(new, old):
        envs = np.repeat(SLOT == 1, new.shape[0] // SLOT.size)
        return jnp.where(envs.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    expected = agent.rollout(state.learner, jax.tree.map(choose, fresh, actor))
    assert bits(agent.rollout(replace(state.learner, pool=renewed), actor)) == bits(expected)


def test_no_game_has_its_opponent_exchanged(updates):
    opponents = {}
    for update in updates:
        taken_at = update["before"].learner.pool.taken_at
        for row in np.flatnonzero(SLOT_OF_ROW != NOBODY):
            for draw in update["trajectory"].obs[:, row, DRAW]:
                opponents.setdefault((row, float(draw)), set()).add(int(taken_at[SLOT_OF_ROW[row]]))
    assert all(len(met) == 1 for met in opponents.values())
    assert set.union(*opponents.values()) == {0, 2, 4, 6}


def test_returns_against_the_pool_are_counted_apart(updates):
    in_pool, num_games = SLOT_OF_ROW != NOBODY, 0
    for update in updates:
        trajectory, metrics = update["trajectory"], update["metrics"]
        ended = trajectory.terminated
        returns = np.where(ended, trajectory.episode_return, 0.0)
        assert metrics["pool_return_sum"] == returns[:, in_pool].sum()
        assert metrics["num_pool_episodes"] == ended[:, in_pool].sum()
        assert metrics["num_episodes"] == ended[:, ~in_pool].sum() / 2
        for seat in (0, 1):
            of_seat = returns[:, ~in_pool & (seat == SEATS)].sum()
            assert metrics[f"agent_{seat}_return_sum"] == of_seat
        assert metrics["episode_return_sum"] == 0.0  # of games among the learner
        num_games += metrics["num_pool_episodes"]
    assert num_games > 0


def test_a_pool_of_the_learner_itself_changes_no_game():
    """With memory: the first update of self-play, whose rows of opponents are left out."""
    memory = {"memory": "gru", "memory_size": 4, "hidden_sizes": (4,), "sequence_length": 2}
    config = with_settings(CONFIG, **memory)
    made = jaxdrl.ppo(pennies(3), config)
    alone = jaxdrl.ppo(pennies(3), with_settings(config, pool_size=0))
    state = jit(made.init)(jax.random.key(0))
    actor, trajectory = jit(made.rollout)(state.learner, state.actor)
    own_actor, own = jit(alone.rollout)(replace(state.learner, pool=()), state.actor)
    own = jax.tree.map(lambda x: x[:, rows_of_learner()], own)
    np.testing.assert_array_equal(trajectory.action, own.action)
    close = partial(np.testing.assert_allclose, atol=1e-6)
    assert jax.tree.leaves(trajectory.carry)
    jax.tree.map(close, trajectory, own)
    jax.tree.map(close, actor.carry, own_actor.carry)


def test_a_warm_start_fills_every_slot(agent):
    learner = agent.init(jax.random.key(0)).learner
    other = agent.init(jax.random.key(1)).learner
    names = ("params", "obs_statistics")
    loaded = replace(learner, **{name: getattr(other, name) for name in names})
    assert bits(refilled(loaded).pool) == bits(other.pool)
    assert refilled(replace(loaded, pool=())).pool == ()
