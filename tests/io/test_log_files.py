"""Logs that only grow: their digests, and what happens to one that something else changes."""

import errno
import os

import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.io.log_files import MAX_WAITING, LogFile, require

LINES = [f'{{"update": {i}, "loss": 0.{i}}}\n'.encode() for i in range(1, 7)]


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def log(tmp_path, warnings):
    return LogFile(tmp_path / "metrics.jsonl", warnings.append)


def test_a_log_goes_on_from_where_it_was(log, tmp_path, warnings):
    for line in LINES[:3]:
        log.append(line)
    snapshot = log.snapshot()
    for line in LINES[3:]:
        log.append(line)
    log.append(b'{"upd')
    again = LogFile(log.path, warnings.append)
    again.restore(snapshot)
    assert log.path.read_bytes() == b"".join(LINES[:3])
    assert again.snapshot() == snapshot
    again.append(LINES[3])
    straight = LogFile(tmp_path / "straight", warnings.append)
    straight.append(b"".join(LINES[:4]))
    assert again.snapshot() == straight.snapshot()
    assert warnings == []


CHANGES = {
    "a digit": lambda lines: [lines[0].replace(b"0.1", b"0.2"), *lines[1:]],
    "a line is missing": lambda lines: lines[1:],
    "two are swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "one is twice there": lambda lines: [lines[0], *lines],
    "the last is torn": lambda lines: [*lines[:-1], lines[-1][:9]],
    "all are gone": lambda lines: [],
    "CR LF": lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_lines_that_are_not_what_was_written_are_refused_and_left_alone(log, change):
    for line in LINES[:4]:
        log.append(line)
    snapshot = log.snapshot()
    changed = b"".join(change(LINES[:4]))
    log.path.write_bytes(changed)
    for refuse in (LogFile(log.path, print).restore, lambda s: require(log.path, s, "the run's")):
        with pytest.raises(ConfigError) as caught:
            refuse(snapshot)
        assert str(caught.value).startswith(f"{log.path}: ")
        assert "put back a copy" in str(caught.value)
        assert log.path.read_bytes() == changed


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_a_log_that_is_no_file_is_refused(log, make):
    log.append(LINES[0])
    snapshot = log.snapshot()
    log.path.unlink()
    make(log.path)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be read \("):
        log.restore(snapshot)


def test_lines_that_cannot_be_written_are_kept_in_the_snapshot(log, warnings, monkeypatch):
    log.append(LINES[0])

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        log.append(LINES[1])
    assert "could not be written" in warnings[0]
    again = LogFile(log.path, warnings.append)
    again.restore(log.snapshot())
    again.append(LINES[2])
    assert log.path.read_bytes() == b"".join(LINES[:3])


def test_a_log_that_is_removed_or_changed_goes_on_with_what_is_there(log, warnings):
    log.append(LINES[0])
    log.path.unlink()
    log.append(LINES[1])
    assert log.path.read_bytes() == LINES[1]
    assert "was changed by another program" in warnings[0]
    require(log.path, log.snapshot(), "the run's")
    log.path.write_bytes(LINES[4] + LINES[5])
    log.append(LINES[2])
    assert log.path.read_bytes() == LINES[4] + LINES[5] + LINES[2]
    require(log.path, log.snapshot(), "the run's")
    assert len(warnings) == 2


def test_a_log_is_not_written_through_a_link(log, tmp_path, warnings):
    (tmp_path / "foreign").write_text("theirs")
    log.path.symlink_to(tmp_path / "foreign")
    log.append(LINES[0])
    assert "Is a symbolic link" in warnings[0]
    assert (tmp_path / "foreign").read_text() == "theirs"


class Disk:
    """Takes so many bytes more; None: as many as come."""

    room: int | None = None

    def write(self, descriptor, data, write=os.write):
        if self.room is None:
            return write(descriptor, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        num = write(descriptor, data[: self.room])
        self.room -= num
        return num


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(os, "write", disk.write)
    return disk


def test_an_outage_is_said_once_and_its_end_too_and_nothing_is_lost(log, disk, warnings):
    log.append(LINES[0])
    for _ in range(2):  # outages
        disk.room = 0
        for line in LINES[1:4]:
            log.append(line)
        disk.room = None
        log.append(b"")
    log.finish()
    assert log.path.read_bytes() == LINES[0] + b"".join(LINES[1:4]) * 2
    require(log.path, log.snapshot(), "the run's")
    assert warnings == 2 * [
        f"{log.path} could not be written (No space left on device); its lines wait until it can",
        f"{log.path} can be written again",
    ]


@pytest.mark.parametrize("room", range(1, 3 * len(LINES[0]) + 1))
def test_as_many_whole_lines_are_written_as_there_is_room_for(log, disk, room):
    log.append(LINES[0])
    disk.room = 0
    log.append(LINES[1] + LINES[2])
    disk.room = room
    log.append(LINES[3])
    whole = room // len(LINES[0])
    assert log.path.read_bytes() == b"".join(LINES[: 1 + whole])
    require(log.path, log.snapshot(), "the run's")
    disk.room = None
    log.append(LINES[4])
    assert log.path.read_bytes() == b"".join(LINES[:5])
    require(log.path, log.snapshot(), "the run's")


def test_lines_that_wait_are_bounded_and_what_is_lost_is_counted(log, disk, warnings):
    long = [b"%d" % i * (MAX_WAITING // 3 - 1) + b"\n" for i in range(6)]
    disk.room = 0
    for line in long:
        log.append(line)
    assert len(log.unwritten) == 3 * len(long[0])
    assert len(warnings) == 2
    assert "no more fit, and further lines are lost until it can be written" in warnings[1]
    disk.room = None
    log.append(long[0])  # three and this one are more than may wait, and there is room for all
    assert log.path.read_bytes() == b"".join(long[:3]) + long[0]
    assert warnings[2:] == [f"{log.path} can be written again; 3 lines are lost"]
    require(log.path, log.snapshot(), "the run's")


def test_what_never_could_be_written_is_said_at_the_end(log, disk, warnings):
    disk.room = 0
    log.append(LINES[0] + LINES[1])
    log.finish()
    assert warnings[1:] == [f"{log.path}: its last 2 lines could not be written"]
