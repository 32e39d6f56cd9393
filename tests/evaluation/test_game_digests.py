"""Digests of games: equal for what is equal, and different for any difference."""

import jax.numpy as jnp
import numpy as np

from jaxdrl.evaluation.game_digests import digest_of, followed_by


def test_a_digest_is_of_all_that_the_agents_of_a_game_saw():
    rng = np.random.default_rng(0)
    board = rng.normal(size=(8, 3, 2)).astype(np.float32)  # four games of two agents
    flag = rng.integers(0, 2, (8,)) > 0
    base = np.asarray(digest_of({"board": jnp.asarray(board), "flag": jnp.asarray(flag)}, 4))
    assert len(set(base.tolist())) == 4
    for row in range(8):
        for name in ("board", "flag"):
            changed = {"board": board.copy(), "flag": flag.copy()}
            if name == "board":
                changed["board"][row, 2, 1] = np.nextafter(board[row, 2, 1], np.float32(9))
            else:
                changed["flag"][row] = ~flag[row]
            digest = np.asarray(digest_of({k: jnp.asarray(x) for k, x in changed.items()}, 4))
            np.testing.assert_array_equal(digest != base, np.arange(4) == row // 2)


def test_numbers_in_other_places_and_steps_in_another_order_differ():
    one, other = jnp.array([[1.0, 2.0]]), jnp.array([[2.0, 1.0]])
    first, second = digest_of(one, 1), digest_of(other, 1)
    assert first != second
    assert followed_by(first, second) != followed_by(second, first)
    assert digest_of(one, 1) == first


def test_hardly_any_two_of_many_share_a_digest():
    grid = jnp.stack(jnp.meshgrid(*[jnp.arange(10, dtype=jnp.int8)] * 4), axis=-1).reshape(-1, 4)
    assert len(np.unique(np.asarray(digest_of(grid, 10_000)))) >= 9_999
