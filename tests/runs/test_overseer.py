"""What process 0 does with the news of all processes, told by the test."""

import dataclasses
import time

import pytest

from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.status import Peer, Status
from jaxdrl.runs import overseer, processes_file
from jaxdrl.runs.overseer import Overseer

HOSTS = Hosts(names=["a", "b"])


def peers(idle=0.0, **second):
    """Two processes of which nothing has changed for so long."""
    first = {"pid": 11, "phase": "updating", "dispatched": 7, "completed": 6}
    changed = time.monotonic() - idle
    return {
        index: Peer(dataclasses.asdict(Status(**fields)), time.monotonic(), changed)
        for index, fields in enumerate((first, first | {"pid": 12} | second))
    }


def test_all_processes_are_written(tmp_path):
    told = peers(3.0, dispatched=6, own_seconds=0.25, memory_bytes=99)
    assert Overseer(HOSTS, tmp_path, None).look(told) is None
    one, two = processes_file.read(tmp_path).reports
    idle = two.pop("idle_seconds")
    assert 3.0 <= idle < 60
    assert two == {
        "process": 1,
        "host": "b",
        "pid": 12,
        "phase": "updating",
        "dispatched": 6,
        "completed": 6,
        "own_seconds": 0.25,
        "memory_bytes": 99,
    }
    assert (one["process"], one["host"], one["pid"]) == (0, "a", 11)


def test_nothing_is_said_before_all_are_known(tmp_path):
    told = peers(100.0)
    del told[0]
    assert Overseer(HOSTS, tmp_path, 1.0).look(told) is None
    assert list(tmp_path.iterdir()) == []


def test_it_is_written_at_once_and_then_now_and_again(tmp_path, monkeypatch):
    seen = Overseer(HOSTS, tmp_path, None)

    def written(dispatched):
        seen.look(peers(dispatched=dispatched))
        return processes_file.read(tmp_path).reports[1]["dispatched"]

    assert written(1) == 1
    assert written(2) == 1
    monkeypatch.setattr(overseer, "SECONDS", 0.0)
    assert written(3) == 3


@pytest.mark.parametrize(
    ("stuck_after", "idle", "second", "found"),
    [
        (None, 1e6, {"dispatched": 3}, False),
        (10.0, 9.0, {"dispatched": 3}, False),
        (10.0, 11.0, {"dispatched": 3}, True),
        (10.0, 11.0, {"phase": "compiling", "dispatched": 0}, False),
    ],
)
def test_a_process_that_is_stuck_ends_the_run(tmp_path, stuck_after, idle, second, found):
    why = Overseer(HOSTS, tmp_path, stuck_after).look(peers(idle, **second))
    assert (why is not None) == found
    if found:
        assert why.startswith("process 1 on host b is stuck: updating, without progress for 11 s")


def test_progress_of_one_process_is_progress_of_the_run(tmp_path):
    told = peers(100.0)
    told[1].changed = time.monotonic()
    assert Overseer(HOSTS, tmp_path, 10.0).look(told) is None


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path):
    assert Overseer(HOSTS, tmp_path / "gone", 10.0).look(peers(11.0, dispatched=3)) is not None
