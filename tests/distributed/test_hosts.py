"""How the processes of a run agree: several of them in threads that share a store."""

import json
import socket
import threading

import pytest

from jaxdrl.distributed.hosts import Hosts, PeerRefusedError, first_difference
from jaxdrl.distributed.store import local_store
from jaxdrl.errors import ConfigError
from pretended import in_each, three_hosts


@pytest.fixture
def three():
    return three_hosts()


def test_a_process_is_named_with_its_host(three):
    assert [each.name(each.index) for each in three] == [
        "process 0 on host a",
        "process 1 on host b",
        "process 2 on host b",
    ]
    assert [each.is_first for each in three] == [True, False, False]
    assert {(each.count, each.is_alone) for each in three} == {(3, False)}


def test_a_single_process_asks_no_store():
    alone = Hosts(local_store()._replace(set=pytest.fail, get=pytest.fail, wait=pytest.fail))
    assert (alone.index, alone.count, alone.is_first, alone.is_alone) == (0, 1, True, True)
    assert alone.name(0) == f"process 0 on host {socket.gethostname()}"
    made = object()
    assert alone.first("a", lambda: made) is made
    assert alone.gather("a", made) == [made]
    alone.require_same("a", {"seed": 1})
    with pytest.raises(ConfigError, match="my refusal"), alone.refusing():
        raise ConfigError("my refusal")


def test_what_is_published_is_read_and_replaced(three):
    value = {"a": [1, None, "ü"], "b": 0.1, "c": True}
    assert three[1].read("key") is None
    three[0].post("key", value)
    for each in three:
        assert each.read("key") == each.wait("key") == value
        assert each.read("key") is not value
    three[2].post("key", None)
    assert three[0].read("key") is three[0].wait("key") is None
    assert three[0].store.get("key") == json.dumps(None)


def test_waiting_ends_when_it_is_published(three):
    timer = threading.Timer(0.02, three[0].post, ("late", 7))
    timer.start()
    assert in_each(three[1:], lambda each: each.wait("late")) == [7, 7]
    timer.join()


def test_process_0_makes_it_and_all_have_it(three):
    calls = []

    def ask(hosts):
        def make():
            calls.append(hosts.index)
            return {"by": hosts.index, "call": len(calls)}

        return [hosts.first("what", make) for _ in range(2)] + [hosts.first("other", make)]

    expected = [{"by": 0, "call": call} for call in (1, 2, 3)]
    assert in_each(three, ask) == [expected] * 3
    assert calls == [0, 0, 0]


def test_the_values_of_all_come_in_their_order(three):
    def ask(hosts):
        return [hosts.gather("what", [hosts.index, number]) for number in range(20)]

    expected = [[[index, number] for index in range(3)] for number in range(20)]
    assert in_each(three, ask) == [expected] * 3


def test_what_process_0_refuses_is_refused_by_all(three):
    def make():
        raise ConfigError("run_dir = 'x': is taken")

    own, *others = in_each(three, lambda hosts: hosts.first("what", make))
    assert type(own) is ConfigError
    assert str(own) == "run_dir = 'x': is taken"
    for other in others:
        assert type(other) is PeerRefusedError
        assert str(other) == "process 0 on host a: run_dir = 'x': is taken"


@pytest.mark.parametrize("ask", ["gather", "first", "wait"])
def test_what_another_process_refuses_ends_the_waiting_for_it(three, ask):
    def call(hosts):
        with hosts.refusing():
            if hosts.index == 2:
                raise ConfigError("track = 'wandb': is not installed")
            if ask == "gather":
                return hosts.gather("what", 1)
            if ask == "wait":
                return hosts.wait("what")
            return hosts.first("what", lambda: hosts.wait("of process 2"))

    *others, own = in_each(three, call)
    assert type(own) is ConfigError
    for other in others:
        assert type(other) is PeerRefusedError
        assert str(other) == "process 2 on host b: track = 'wandb': is not installed"
    assert three[0].store.all("refusals") == [("2", json.dumps(str(own)))]  # not passed on


def test_what_was_published_before_a_refusal_is_still_read(three):
    three[1].post("key", 1)
    with pytest.raises(ConfigError), three[1].refusing():
        raise ConfigError("refused")
    assert three[0].wait("key") == 1


def test_an_error_that_is_no_refusal_is_not_passed_on(three):
    with pytest.raises(ValueError, match="a fault"), three[1].refusing():
        raise ValueError("a fault")
    assert three[0].store.all("refusals") == []


def test_the_same_everywhere_is_accepted(three):
    value = {"seed": 1, "algorithm": {"rate": 1e-3, "sizes": [8, 8]}}
    assert in_each(three, lambda hosts: hosts.require_same("run", value)) == [None] * 3


@pytest.mark.parametrize("differs", [0, 1, 2])
def test_a_difference_is_refused_with_process_and_field(three, differs):
    def ask(hosts):
        gamma = 0.9 if hosts.index == differs else 0.99
        hosts.require_same("run", {"seed": 1, "algorithm": {"rate": 1e-3, "gamma": gamma}})

    own, *others = in_each(three, ask)
    who, there, here = (1, 0.99, 0.9) if differs == 0 else (differs, 0.9, 0.99)
    expected = f"algorithm.gamma = {there} in process {who} on host b, and {here} in process 0 on "
    expected += "host a; start all processes with the same algorithm.gamma"
    assert type(own) is ConfigError
    assert [type(other) for other in others] == [PeerRefusedError] * 2  # process 0 speaks for all
    assert {str(error) for error in (own, *others)} == {expected}


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ({}, {}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}, None),
        ({"a": 1, "b": 2}, {"b": 3, "a": 1}, ("b", 2, 3)),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ("a.b.c", 1, 2)),
        ({"a": 1}, {}, ("a", 1, None)),
        ({}, {"a": {"b": 1}}, ("a", None, {"b": 1})),
        ({"a": None}, {"a": {"b": 1}}, ("a", None, {"b": 1})),
        ({"a": [1, 2]}, {"a": [2, 1]}, ("a", [1, 2], [2, 1])),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2}, ("a", 1, 2)),
    ],
)
def test_the_first_difference_has_its_dotted_name(one, other, found):
    assert first_difference(one, other) == found
