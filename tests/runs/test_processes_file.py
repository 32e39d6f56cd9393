"""The file about the processes of a run, which anything may have damaged."""

import json
import os
import threading

import pytest

from jaxdrl.runs import processes_file
from jaxdrl.runs.run_dir import PROCESSES_FILE


def report(process, **fields):
    common = {"host": "a", "pid": 17, "phase": "updating", "dispatched": 12, "completed": 11}
    common |= {"own_seconds": 0.004, "memory_bytes": 123, "idle_seconds": 0.3}
    return {"process": process, **common, **fields}


def test_what_is_written_is_read(tmp_path):
    reports = [report(0), report(1, own_seconds=None, memory_bytes=None)]
    processes_file.write(tmp_path, reports, now=1000.5)
    assert os.listdir(tmp_path) == ["processes.json"]
    found = processes_file.read(tmp_path)
    assert (found.time, found.reports) == (1000.5, reports)
    processes_file.write(tmp_path, [report(0, own_seconds=float("nan"))])
    found = processes_file.read(tmp_path)
    assert found.reports == [report(0, own_seconds=None)]
    assert found.time > 1e9  # the clock's


def test_a_reader_beside_the_writer_never_sees_half_a_file(tmp_path):
    many = [report(i) for i in range(64)]
    processes_file.write(tmp_path, many)
    done = threading.Event()

    def write():
        for i in range(200):
            processes_file.write(tmp_path, many, now=float(i))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reads = 0
    while not done.is_set():
        assert processes_file.read(tmp_path) is not None
        reads += 1
    thread.join()
    assert reads > 5


def test_writing_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("waits for the disk"))
    processes_file.write(tmp_path, [report(0)])
    assert processes_file.read(tmp_path) is not None


def test_what_cannot_be_written_stops_nobody(tmp_path):
    processes_file.write(tmp_path / "removed", [report(0)])
    (tmp_path / PROCESSES_FILE).mkdir()
    processes_file.write(tmp_path, [report(0)])
    assert os.listdir(tmp_path) == [PROCESSES_FILE]


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (tmp_path / "precious").write_text("mine")
    (run_dir / PROCESSES_FILE).symlink_to(tmp_path / "precious")
    processes_file.write(run_dir, [report(0)])
    assert (tmp_path / "precious").read_text() == "mine"
    assert processes_file.read(run_dir).reports == [report(0)]


def content(**fields):
    return {"format_version": 1, "time": 5.0, "processes": [report(0)]} | fields


DAMAGED = {
    "empty": "",
    "half written": json.dumps(content())[:100],
    "not JSON": "\x00\x01",
    "a list": "[]",
    "newer": json.dumps(content(format_version=2)),
    "no version": json.dumps(
        {name: x for name, x in content().items() if name != "format_version"}
    ),
    "no time": json.dumps(content(time=None)),
    "time of another type": json.dumps(content(time="now")),
    "no processes": json.dumps(content(processes=[])),
    "processes of another type": json.dumps(content(processes={"0": report(0)})),
    "process of another type": json.dumps(content(processes=[7])),
    "no host": json.dumps(content(processes=[report(0, host=None)])),
    "phase of another type": json.dumps(content(processes=[report(0, phase=3)])),
    "a flag for a count": json.dumps(content(processes=[report(0, dispatched=True)])),
    "a fraction for a count": json.dumps(content(processes=[report(0, completed=1.5)])),
    "negative": json.dumps(content(processes=[report(0, idle_seconds=-1)])),
    "no idle time": json.dumps(content(processes=[report(0, idle_seconds=None)])),
    "words for seconds": json.dumps(content(processes=[report(0, own_seconds="4")])),
}


def test_there_is_nothing_to_read_without_a_file(tmp_path):
    assert processes_file.read(tmp_path) is None
    assert processes_file.read(tmp_path / "no directory") is None
    os.mkfifo(tmp_path / PROCESSES_FILE)
    assert processes_file.read(tmp_path) is None


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_as_none(tmp_path, text):
    path = tmp_path / PROCESSES_FILE
    path.write_text(json.dumps(content(more="from a later version")))
    assert processes_file.read(tmp_path).reports == [report(0)]
    path.write_text(text)
    assert processes_file.read(tmp_path) is None


def test_an_old_file_is_silence():
    found = processes_file.Processes(1000.0, [report(0), report(1)])
    assert processes_file.silence(found, 1009.9) is None
    assert processes_file.silence(found, 900.0) is None  # clocks differ
    words = processes_file.silence(found, 1012.4)
    assert words.startswith("no news of the processes for 12 s: process 0 on host a, which writes ")
