"""What a process tells the others about its training, on a clock that the test sets."""

import types

import pytest

from jaxdrl.distributed.status import Status
from jaxdrl.runs import pace
from jaxdrl.runs.pace import WEIGHT, Pace


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(pace, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_updates_are_counted_as_they_are_handed_over_and_seen(clock):
    status, memory = Status(), iter([100, 90, 300])
    kept = Pace(status, lambda: next(memory))
    step = kept.timed(lambda state: (state + 1, {"loss": 0.0}))
    kept.begin(5)
    assert (status.phase, status.dispatched, status.completed) == ("updating", 5, 5)
    assert step(41) == (42, {"loss": 0.0})
    assert (status.dispatched, status.completed) == (6, 5)
    step(0)
    kept.seen(6, {})
    assert (status.dispatched, status.completed, status.memory_bytes) == (7, 6, 100)
    kept.seen(7, {})
    assert (status.dispatched, status.completed, status.memory_bytes) == (7, 7, 90)


def test_an_update_counts_before_its_step_returns(clock):
    status = Status()
    kept = Pace(status, int)
    kept.begin(0)
    assert kept.timed(lambda state: status.dispatched)(None) == 1


def test_own_time_is_from_the_metrics_of_an_update_to_the_next_step(clock):
    status = Status()
    kept = Pace(status, int)

    def step(state):
        clock.now += 1000.0  # handing it over is not counted, and neither is waiting
        return state, {}

    step = kept.timed(step)
    kept.begin(0)
    clock.now += 50.0
    step(None)
    assert status.own_seconds == 0.0
    step(None)
    assert status.own_seconds == 0.0  # no metrics were seen
    mean = None
    for update, seconds in enumerate((0.5, 0.1, 0.3), start=1):
        clock.now += 70.0
        kept.seen(update, {})
        clock.now += seconds
        step(None)
        mean = seconds if mean is None else (1 - WEIGHT) * mean + WEIGHT * seconds
        assert status.own_seconds == pytest.approx(mean)


def test_what_lies_between_updates_is_not_their_time(clock):
    status = Status()
    kept = Pace(status, int)
    step = kept.timed(lambda state: (state, {}))
    kept.begin(0)
    step(None)
    kept.seen(1, {})
    clock.now += 60.0  # an evaluation
    kept.begin(1)
    step(None)
    assert status.own_seconds == 0.0
    assert (status.dispatched, status.completed) == (2, 1)
