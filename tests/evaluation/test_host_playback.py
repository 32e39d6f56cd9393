"""Episodes in an environment of the host, drawn while they are played."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from counting_host import LONGEST, counting, make_counting
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.host.protocol import HostEnvironment
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation import playback
from jaxdrl.evaluation.host_playback import require_drawn

NUM = 6
LEARNER = LearnerState((), (), None, None, (), ())


def act(learner, carry, obs, episode_start, key, *, greedy=False):
    carry = jnp.where(episode_start, 0, carry + 1)
    noise = 0 if greedy else jax.random.randint(key, episode_start.shape, 0, 2)
    return (carry + noise) % 2, carry


POLICY = Policy(lambda num: jnp.zeros((num,), jnp.int32), act)


def play(env=None, max_frames=100, num_steps=LONGEST, greedy=True):
    return playback.record(
        env or counting(),
        POLICY,
        LEARNER,
        jax.random.key(3),
        num_envs=NUM,
        num_steps=num_steps,
        max_frames=max_frames,
        greedy=greedy,
    )


def steps_drawn(moment):
    """What the pictures of the counting environment show."""
    return [int(picture.unpacked()[0, 0, 0]) // 20 for picture in moment.env_state]


@pytest.mark.parametrize("greedy", [True, False])
def test_they_are_the_episodes_of_evaluate_step_by_step(greedy):
    moments = play(greedy=greedy)
    wanted = jaxdrl.evaluate(
        counting(),
        POLICY,
        LEARNER,
        jax.random.key(3),
        num_episodes=NUM,
        greedy=greedy,
    )
    assert len(set(wanted.lengths.tolist())) > 2
    assert [moment.num_steps for moment in moments] == list(range(max(wanted.lengths) + 1))
    for moment in moments:
        lengths = np.minimum(moment.num_steps, wanted.lengths)
        np.testing.assert_array_equal(moment.lengths, lengths)
        np.testing.assert_array_equal(moment.ended, moment.num_steps >= wanted.lengths)
        # The last picture of an episode stays, whatever its copy plays after that.
        assert steps_drawn(moment) == lengths.tolist()
    np.testing.assert_array_equal(moments[-1].returns, wanted.returns)
    assert moments[-1].terminated.any() and moments[-1].truncated.any()
    assert not (moments[-1].terminated & moments[-1].truncated).any()


@pytest.mark.parametrize("max_frames", [2, 3, 5])
def test_a_thinned_film_shows_the_same_and_draws_less(max_frames):
    drawn = []

    def make(num_envs):
        batch = make_counting(num_envs)
        return batch._replace(draw=lambda row: drawn.append(row) or batch.draw(row))

    whole, thinned = play(), play(counting(make), max_frames)
    last = whole[-1].num_steps
    every = thinned[1].num_steps if len(thinned) > 2 else 16
    steps = [moment.num_steps for moment in thinned]
    assert steps == sorted({*range(0, last, every), last})
    for moment in thinned:
        assert steps_drawn(moment) == steps_drawn(whole[moment.num_steps])
        np.testing.assert_array_equal(moment.returns, whole[moment.num_steps].returns)
    assert len(drawn) < NUM + int(whole[-1].lengths.sum())


def test_longer_episodes_are_cut():
    whole, cut = play(), play(num_steps=4)
    assert [moment.num_steps for moment in cut] == [0, 1, 2, 3, 4]
    assert not cut[-1].ended.all()
    assert steps_drawn(cut[-1]) == cut[-1].lengths.tolist()
    np.testing.assert_array_equal(cut[-1].returns, whole[4].returns)


def with_host(**fields):
    return counting()._replace(host=HostEnvironment(**fields))


def test_copies_are_made_as_they_are_drawn_and_closed():
    made, closed = [], []

    def make_drawn(num_envs):
        made.append(num_envs)
        return make_counting(num_envs)._replace(close=lambda: closed.append(num_envs))

    env = with_host(make=lambda num: pytest.fail("it has no picture"), make_drawn=make_drawn)
    require_drawn(env)
    play(env)
    assert made == closed == [1, NUM]


def without_picture(num_envs):
    return make_counting(num_envs)._replace(draw=None)


def without_display(num_envs):
    def draw(row):
        raise OSError("there is no display\nand much more")

    return make_counting(num_envs)._replace(draw=draw)


def without_library(num_envs):
    raise AttributeError("'NoneType' object has no attribute 'glGetError', of OpenGL")


def with_numbers(num_envs):
    return make_counting(num_envs)._replace(draw=lambda row: np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (without_picture, r"env = 'test/Counting': has no picture.*jaxdrl evaluate plays"),
        (without_display, r"env = 'test/Counting': could not be drawn: there is no display$"),
        (without_library, r"could not be drawn: 'NoneType' .*; without a display.*MUJOCO_GL=egl"),
        (with_numbers, r"test/Counting: draw returned float64\[2, 2\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(make, words):
    with pytest.raises(ConfigError, match=words):
        require_drawn(with_host(make=make))
