"""How fast environments of the host are acted in, for `jaxdrl doctor`."""

import time

import jaxdrl
from counting_host import counting, make_counting
from jaxdrl.cli.measure_on_host import Speeds, measure


def test_a_slow_environment_makes_acting_the_slower_side():
    """A millisecond a step is 8,000 steps/s of 8 copies, and sleeping is never quicker."""
    closed = []

    def make(num_envs):
        batch = make_counting(num_envs, lambda: time.sleep(0.001))
        return batch._replace(close=lambda: closed.append(num_envs))

    config = jaxdrl.with_settings(jaxdrl.PPOConfig(), num_envs=8, num_steps=8, num_minibatches=1)
    found = measure(counting(make), config, 0.01)
    assert 0 < found.acting < 8_000
    assert found.learning > 0
    assert closed == [8]


def test_both_at_once_are_as_fast_as_the_slower_side():
    assert Speeds(acting=10.0, learning=40.0).at_once == 10.0
    words = "acting alone makes 4,000 steps/s, and learning 1,000: learning is the slower side by 4"
    assert str(Speeds(acting=4_000.0, learning=1_000.0)).startswith(words)
