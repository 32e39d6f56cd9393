import jax
import numpy as np
import pytest

from counting_host import LONGEST, length_of, make_counting
from jaxdrl.actors import episodes
from jaxdrl.core.keys import make_key

KEYS = jax.random.split(make_key(3), 1000)


def test_seeds_follow_from_the_key_and_the_number_of_the_episode_alone():
    base = episodes.seed_bases(KEYS)
    number = np.arange(1000, dtype=np.int32) % 7
    seeds = episodes.seeds_of(base, number)
    order = np.random.default_rng(0).permutation(1000)[:10]
    np.testing.assert_array_equal(episodes.seed_bases(KEYS[order]), base[order])
    np.testing.assert_array_equal(episodes.seeds_of(base[order], number[order]), seeds[order])
    # A run that is resumed with another version of the library goes on to the same episodes.
    assert seeds[:3].tolist() == [1429193889, 1546824532, 1800530237]


def test_seeds_are_those_of_splitmix64():
    mask = 2**64 - 1

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    for start in (0, 1, 2**64 - 1):
        state = start
        for number in range(5):
            state = (state + 0x9E3779B97F4A7C15) & mask
            given = episodes.seeds_of(np.array([start], np.uint64), np.array([number], np.int32))
            assert given.tolist() == [mix(state) >> 33]


def test_seeds_are_spread_evenly_over_copies_and_episodes():
    base = episodes.seed_bases(KEYS)
    seeds = np.stack([episodes.seeds_of(base, np.full(1000, n, np.int32)) for n in range(50)])
    assert seeds.dtype == np.uint32 and seeds.max() < 2**31
    assert len(np.unique(seeds)) > 49_900  # 0.6 pairs of equal ones are expected
    bits = (seeds[..., None] >> np.arange(31, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(axis=(0, 1)) - 0.5).max() < 5 * 0.5 / np.sqrt(50_000)
    for one, other in ((bits[1:], bits[:-1]), (bits[:, 1:], bits[:, :-1])):
        assert np.abs((one == other).mean(axis=(0, 1)) - 0.5).max() < 5 * 0.5 / np.sqrt(49_000)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_actions_of_running_episodes_are_kept(shape):
    rng = np.random.default_rng(1)
    num_envs, longest = 5, 12
    histories = [[] for _ in range(num_envs)]
    actions = np.zeros((num_envs, longest, *shape), np.float32)
    length = np.zeros(num_envs, np.int32)
    for num_steps in (4, 1, 7, 3, 12, 5):
        taken = rng.normal(size=(num_steps, num_envs, *shape)).astype(np.float32)
        ended = np.zeros((num_steps, num_envs), bool)
        for t in range(num_steps):
            for row, history in enumerate(histories):
                history.append(taken[t, row])
                ended[t, row] = rng.random() < 0.2 or len(history) == longest
                if ended[t, row]:
                    history.clear()
        before = actions.copy()
        given = episodes.extend(actions, length, taken, ended)
        np.testing.assert_array_equal(actions, before)
        actions, length = given
        assert length.tolist() == [len(history) for history in histories]
        for row, history in enumerate(histories):
            for kept, action in zip(actions[row], history, strict=False):
                np.testing.assert_array_equal(kept, action)


def test_without_room_no_actions_are_kept():
    actions = np.zeros((2, 0), np.int32)
    for ended in (np.zeros((3, 2), bool), np.ones((3, 2), bool)):
        given, length = episodes.extend(actions, np.ones(2, np.int32), np.ones((3, 2)), ended)
        assert given.shape == (2, 0)
        assert length.tolist() == [0 if ended.all() else 4] * 2


def test_rows_are_replayed_to_their_own_last_action():
    rng = np.random.default_rng(2)
    for _ in range(20):
        seeds = rng.integers(0, 1000, 6).astype(np.uint32)
        length = rng.integers(0, length_of(seeds)).astype(np.int32)
        actions = rng.integers(0, 3, (6, LONGEST)).astype(np.int32)
        rows = rng.random(6) < 0.7
        rows[0] = True
        obs, is_running = episodes.replay(make_counting(6), rows, seeds, actions, length)
        np.testing.assert_array_equal(is_running, rows)
        sums = [actions[row, : length[row]].sum() for row in range(6)]
        expected = np.stack([seeds % 97, length, sums], axis=1)
        np.testing.assert_array_equal(obs[rows], expected[rows])


def test_a_row_that_ends_too_early_is_found_and_not_stepped_after_its_end():
    seeds = np.arange(6, dtype=np.uint32)
    length = length_of(seeds).astype(np.int32) - 1
    length[[1, 5]] += 2  # the longest episode is one of them
    actions = np.zeros((6, LONGEST + 2), np.int32)
    obs, is_running = episodes.replay(make_counting(6), np.ones(6, bool), seeds, actions, length)
    assert is_running.tolist() == [True, False, True, True, True, False]
    np.testing.assert_array_equal(obs[is_running, 1], length[is_running])


def test_observations_are_compared_by_their_bits():
    nan, other_nan = np.float32(np.nan), np.uint32(0x7FC00001).view(np.float32)
    given = {"a": np.array([[1, nan], [1, 0.0], [1, nan], [1, 2]]), "b": np.array([1, 1, 1, 1])}
    expected = {
        "a": np.array([[1, nan], [1, -0.0], [1, other_nan], [1, 2]], np.float32),
        "b": np.array([1, 1, 1, 0], np.int32),
    }
    assert episodes.equal_rows(given, expected).tolist() == [True, False, False, False]
