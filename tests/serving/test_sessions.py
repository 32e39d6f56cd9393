"""Sessions are counted by their rows, and forgotten when they are not used."""

import pytest

from jaxdrl.serving.limits import Limits
from jaxdrl.serving.refusals import RefusedError
from jaxdrl.serving.sessions import Sessions


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def sessions(clock):
    return Sessions(Limits(max_sessions=10, session_seconds=5.0), lambda: clock[0])


def test_those_that_are_used_stay(sessions, clock):
    first, second = sessions.open(), sessions.open()
    for clock[0] in range(12):
        sessions.find(first)
    assert len(sessions) == sessions.num_rows == 1
    with pytest.raises(RefusedError) as caught:
        sessions.find(second)
    assert caught.value.status == 404


def test_rows_count(sessions):
    first = sessions.open()
    sessions.resize(sessions.find(first), 9)
    second = sessions.open()
    with pytest.raises(RefusedError) as caught:
        sessions.open()
    assert caught.value.status == 429
    with pytest.raises(RefusedError):
        sessions.resize(sessions.find(second), 2)
    sessions.resize(sessions.find(first), 1)
    sessions.resize(sessions.find(second), 9)
    sessions.close(second)
    sessions.close(first)
    assert len(sessions) == sessions.num_rows == 0


def test_idle_rows_are_free_again(sessions, clock):
    sessions.resize(sessions.find(sessions.open()), 10)
    with pytest.raises(RefusedError):
        sessions.open()
    clock[0] = 5.1
    for _ in range(10):
        sessions.open()
    assert sessions.num_rows == 10


def test_a_session_of_no_rows_counts_as_one(sessions):
    session = sessions.find(sessions.open())
    sessions.resize(session, 0)
    sessions.resize(session, 3)
    assert sessions.num_rows == 3
