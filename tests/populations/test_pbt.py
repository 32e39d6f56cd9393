"""Exchanges between members, against NumPy and worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.config.search_space import Range
from jaxdrl.errors import ConfigError
from jaxdrl.populations import pbt
from jaxdrl.populations.pbt import Exchange, choose_parents, rank, vary

LOG, EVEN = Range(1e-4, 1e-2, log=True), Range(0.01, 0.03)


def parents_in_numpy(score, num_replaced, draws):
    """The rule, member by member."""
    ranked = sorted(range(len(score)), key=lambda i: (score[i], i))
    worst, best = ranked[:num_replaced], ranked[::-1][:num_replaced]
    fit = [i for i in best if score[i] > -np.inf]
    parent = list(range(len(score)))
    for i in worst if fit else []:
        parent[i] = fit[int(np.float32(draws[i]) * np.float32(len(fit)))]
    return parent


def vary_in_numpy(range_, value, factor, resample, draws):
    if draws[0] < resample:
        share = draws[2]
        if range_.log:
            tried = range_.low * (range_.high / range_.low) ** share
        else:
            tried = range_.low + (range_.high - range_.low) * share
    elif range_.log:
        tried = value * factor if draws[1] < 0.5 else value / factor
    else:
        step = (factor - 1) * (range_.high - range_.low)
        tried = value + step if draws[1] < 0.5 else value - step
    return min(max(tried, range_.low), range_.high)


def test_the_worst_take_over_from_the_best():
    score = jnp.array([3.0, 1.0, 4.0, 2.0, 5.0, 0.0])
    draws = jnp.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.99])
    # 5 and 1 are the worst; 4 and 2 the best, in that order.
    assert choose_parents(score, 2, draws).tolist() == [0, 4, 2, 3, 4, 2]


@pytest.mark.parametrize("seed", range(20))
def test_parents_are_those_of_numpy(seed):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(2, 12))
    num_replaced = int(rng.integers(1, num // 2 + 1))
    score = rng.integers(0, 4, num).astype(np.float32)  # with ties
    score[rng.random(num) < 0.3] = -np.inf
    draws = rng.random(num, np.float32)
    found = choose_parents(jnp.asarray(score), num_replaced, jnp.asarray(draws))
    assert found.tolist() == parents_in_numpy(score, num_replaced, draws)


def test_nobody_takes_over_where_none_is_fit():
    score = jnp.full((4,), -jnp.inf)
    assert choose_parents(score, 2, jnp.zeros(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("range_", [LOG, EVEN], ids=str)
def test_varied_hyperparameters_are_those_of_numpy(range_):
    rng = np.random.default_rng(0)
    values = range_.at(rng.random(200)).astype(np.float32)
    draws = rng.random((3, 200), np.float32)
    found = vary(range_, jnp.asarray(values), 1.2, 0.25, jnp.asarray(draws))
    wanted = [vary_in_numpy(range_, v, 1.2, 0.25, d) for v, d in zip(values, draws.T, strict=True)]
    np.testing.assert_allclose(found, np.array(wanted), rtol=1e-5)
    assert found.dtype == jnp.float32
    assert ((found >= range_.low) & (found <= range_.high)).all()


def standing(**changes):
    state = pbt.init(jax.random.key(0), 3)
    return state.replace(**{name: jnp.asarray(value) for name, value in changes.items()})


def test_members_are_ranked_by_the_mean_of_their_recent_episodes():
    state = standing(return_sum=[6.0, 5.0, 0.0], num_episodes=[3.0, 1.0, 0.0])
    assert rank(state).tolist() == [2.0, 5.0, -jnp.inf]


def test_a_member_without_an_episode_keeps_its_score():
    state = standing(score=[1.0, 2.0, 3.0], return_sum=[9.0, 0.0, 0.0], num_episodes=[1.0, 0, 0])
    assert rank(state).tolist() == [9.0, 2.0, 3.0]


def test_a_diverged_member_ranks_below_all():
    state = standing(score=[1.0, 2.0, jnp.nan], diverged=[False, True, False])
    assert rank(state).tolist() == [1.0, -jnp.inf, -jnp.inf]


def metrics(**changes):
    names = ("episode_return_sum", "num_episodes", "skipped_steps", "grad_norm")
    return {name: jnp.ones(3) for name in names} | changes


def test_returns_are_added_up_between_exchanges():
    state = pbt.init(jax.random.key(0), 3)
    state = pbt.observe(state, metrics(episode_return_sum=jnp.array([1.0, 2.0, 3.0])))
    state = pbt.observe(state, metrics(episode_return_sum=jnp.array([1.0, 2.0, 3.0])))
    assert state.return_sum.tolist() == [2.0, 4.0, 6.0]
    assert state.num_episodes.tolist() == [2.0, 2.0, 2.0]


def test_a_member_has_diverged_where_no_gradient_step_was_finite():
    state = pbt.init(jax.random.key(0), 3)
    seen = metrics(skipped_steps=jnp.array([0.0, 2.0, 4.0]), grad_norm=jnp.array([0.0, 1.0, 0.0]))
    state = pbt.observe(state, seen)
    assert state.diverged.tolist() == [False, False, True]
    assert pbt.observe(state, metrics()).diverged.tolist() == [False] * 3  # it is again


def exchanged(num_updates, score=(1.0, 2.0, 3.0, 0.0), ranges=None, **seen):
    config = Exchange(ranges or {"learning_rate": LOG}, every=4, fraction=0.25)
    seen = {name: jnp.array(x, jnp.float32) for name, x in seen.items()}
    state = pbt.init(jax.random.key(0), 4).replace(score=jnp.array(score), **seen)
    hyperparams = {"gamma": jnp.array([0.1, 0.2, 0.3, 0.4]), "learning_rate": jnp.full(4, 1e-3)}
    learnt = {"params": jnp.arange(8.0).reshape(4, 2)}
    updates = jnp.full((4,), num_updates, jnp.int32)
    return pbt.exchange(config, None, state, hyperparams, learnt, updates)


@pytest.mark.parametrize("num_updates", [1, 3, 5])
def test_nothing_is_exchanged_before_its_time(num_updates):
    state, hyperparams, learnt, parent = exchanged(num_updates)
    assert parent.tolist() == [0, 1, 2, 3]
    assert learnt["params"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    np.testing.assert_array_equal(hyperparams["learning_rate"], np.full(4, 1e-3, np.float32))
    assert state.score.tolist() == [1.0, 2.0, 3.0, 0.0]


def test_an_exchange_copies_what_was_learnt_and_varies_its_ranges_alone():
    state, hyperparams, learnt, parent = exchanged(8)
    assert parent.tolist() == [0, 1, 2, 2]
    assert learnt["params"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5]]
    np.testing.assert_array_equal(hyperparams["gamma"], np.float32([0.1, 0.2, 0.3, 0.3]))
    rates = hyperparams["learning_rate"]
    np.testing.assert_array_equal(rates[:3], np.full(3, 1e-3, np.float32))
    assert rates[3] != rates[2]
    assert state.score.tolist() == [1.0, 2.0, 3.0, 0.0]  # nothing was seen since the last


def test_what_is_varied_is_the_parents_value():
    config = Exchange({"learning_rate": LOG}, every=4, fraction=0.25, factor=1.5, resample=0.0)
    state = pbt.init(jax.random.key(0), 4).replace(score=jnp.array([1.0, 2.0, 3.0, 0.0]))
    rates = {"learning_rate": jnp.array([1e-4, 2e-4, 4e-4, 8e-3])}
    updates = jnp.full((4,), 8, jnp.int32)
    _, found, _, _ = pbt.exchange(config, None, state, rates, {}, updates)
    moved = float(found["learning_rate"][3]) / 4e-4
    assert moved == pytest.approx(1.5, rel=1e-5) or moved == pytest.approx(1 / 1.5, rel=1e-5)


SEEN = {"return_sum": [40.0, 30.0, 8.0, 0.0], "num_episodes": [2.0, 3.0, 1.0, 0.0]}


def test_an_exchange_ranks_by_what_was_seen_since_the_last_and_begins_anew():
    state, _, _, parent = exchanged(8, score=(0.0, 0.0, 99.0, 9.0), **SEEN)
    assert parent.tolist() == [0, 1, 0, 3]  # means of 20, 10 and 8, and a score of 9
    assert state.score.tolist() == [20.0, 10.0, 8.0, 9.0]
    assert state.return_sum.tolist() == state.num_episodes.tolist() == [0.0] * 4


def test_before_its_time_nothing_that_was_seen_is_forgotten():
    state, *_ = exchanged(7, **SEEN)
    assert state.return_sum.tolist() == SEEN["return_sum"]
    assert state.num_episodes.tolist() == SEEN["num_episodes"]


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_member_whose_return_is_not_finite_is_no_parent(bad):
    returns = [bad, 3.0, 2.0, 1.0]
    _, _, learnt, parent = exchanged(8, return_sum=returns, num_episodes=[1.0] * 4)
    assert parent.tolist() == [1, 1, 2, 3]
    assert learnt["params"].tolist() == [[2, 3], [2, 3], [4, 5], [6, 7]]


def test_ranges_in_another_order_are_varied_alike():
    ranges = {"gamma": Range(0.1, 0.4), "learning_rate": LOG}
    found, other = (
        exchanged(8, ranges=dict(items))[1] for items in (ranges.items(), [*ranges.items()][::-1])
    )
    for name in ranges:
        np.testing.assert_array_equal(found[name], other[name])
    assert found["learning_rate"][3] != 1e-3


def test_every_copy_draws_its_parent_and_each_of_its_hyperparameters_for_itself():
    ranges = {name: Range(0.0, 1.0) for name in ("entropy_coef", "gamma")}
    config = Exchange(ranges, every=1, fraction=0.5, resample=1.0)
    state = pbt.init(jax.random.key(0), 20).replace(score=jnp.arange(20.0))
    values = {name: jnp.full(20, 0.5) for name in ranges}
    updates = jnp.ones((20,), jnp.int32)
    _, found, _, parent = pbt.exchange(config, None, state, values, {}, updates)
    assert len(set(parent[:10].tolist())) > 3  # of the 10 best
    assert (parent[:10] >= 10).all()
    drawn = np.concatenate([np.asarray(found[name][:10]) for name in ranges])
    assert len(set(drawn.tolist())) == 20


def test_every_exchange_draws_anew():
    rates = {float(exchanged(4 * i)[1]["learning_rate"][3]) for i in range(1, 9)}
    assert len(rates) > 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"every": 0}, "exchange.every"),
        ({"fraction": 0.0}, "exchange.fraction"),
        ({"fraction": 0.6}, "exchange.fraction"),
        ({"factor": 1.0}, "exchange.factor"),
        ({"resample": 1.5}, "exchange.resample"),
    ],
)
def test_bad_settings_are_refused(changes, field):
    with pytest.raises(ConfigError, match=f"^{field} = "):
        Exchange({"learning_rate": LOG}, **changes)


def test_a_population_that_cannot_exchange_is_refused():
    config = Exchange({"learning_rate": LOG})
    with pytest.raises(ConfigError, match="members = 1: an exchange needs at least 2"):
        config.check({"learning_rate": None}, 1)
    with pytest.raises(ConfigError, match=r"exchange.ranges.learning_rate: .* only has gamma"):
        config.check({"gamma": None}, 4)


def test_at_least_one_member_is_replaced():
    config = Exchange({"learning_rate": LOG}, fraction=0.2)
    assert [config.num_replaced(n) for n in (2, 4, 9, 10, 14, 16)] == [1, 1, 1, 2, 2, 3]
