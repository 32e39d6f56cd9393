"""Files that are replaced as a whole, and never through a link."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxdrl.analysis.figures import make_figure, save_figure
from jaxdrl.analysis.film_writer import write_film
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_json
from jaxdrl.io.safe_files import open_existing, open_to_append, replaced, require_own, write_text


def test_text_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "result.json"
    for text in ("first, which is longer\n", "second\n"):
        write_text(path, text)
        assert path.read_text() == text
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_text_is_on_the_disk_before_it_replaces_the_old_one_if_it_has_to(
    tmp_path, monkeypatch, durable
):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    write_text(tmp_path / "a.json", "new", durable=durable)
    assert calls == (["fsync"] if durable else [])
    assert (tmp_path / "a.json").read_text() == "new"


@pytest.mark.parametrize(
    "owner, name", [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"]
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_text_that_is_half_written_leaves_the_old_file(tmp_path, monkeypatch, owner, name, error):
    path = tmp_path / "result.json"
    write_text(path, "old")

    def fail(*args):
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(owner, name, fail)
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [found for found in tmp_path.iterdir() if not found.name.startswith(".")] == [path]
    write_text(path, "newer")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "newer"


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def link_to_itself(path):
    path.symlink_to(path)


ODD = {
    "directory": Path.mkdir,
    "named pipe": make_fifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop of links": link_to_itself,
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("odd"))
    failed = []

    def read():
        for opened in (open_existing, open_to_append):
            try:
                opened(Path("odd"))
            except OSError:
                failed.append(opened)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert failed == [open_existing, open_to_append]


def save_json(path):
    write_json(path, {"a": 1})


def save_text(path):
    write_text(path, "ours")


def save_picture(path):
    save_figure(make_figure(1, 1), path)


def save_gif(path):
    from PIL import Image

    write_film(path, 2, lambda _: Image.new("RGB", (4, 4)), 5)


WRITERS = {
    "result.json": save_json,
    "wandb_run_id": save_text,
    "lineage.png": save_picture,
    "film.gif": save_gif,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_written_overwrites_nothing_behind_a_link(tmp_path, name):
    foreign, run_dir = tmp_path / "foreign", tmp_path / "run"
    foreign.write_text("theirs")
    run_dir.mkdir()
    path = run_dir / name
    with replaced(path) as unfinished:
        unfinished.write_text("x")
    path.unlink()
    path.symlink_to(foreign)
    unfinished.symlink_to(foreign)  # as it is left by a process that was killed, or planted
    WRITERS[name](path)
    assert foreign.read_text() == "theirs"
    assert path.is_file()
    assert not path.is_symlink()
    assert list(run_dir.iterdir()) == [path]


def test_what_is_left_of_an_unfinished_file_is_removed(tmp_path):
    for plant in (Path.mkdir, Path.touch, make_fifo, link_to_itself):
        path = tmp_path / "result.json"
        with replaced(path) as unfinished:
            pass
        plant(unfinished)
        write_text(path, "new")
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_a_time_both_write_a_whole_file(tmp_path):
    path, others = tmp_path / "policy.zip", [tmp_path / ".policy.writing-1.txt", tmp_path / "a.zip"]
    for other in others:
        other.touch()
    with replaced(path) as first:
        first.write_text("of the fir")
        with replaced(path) as second:
            second.write_text("of the second, which is longer")
        assert path.read_text() == "of the second, which is longer"
        with pytest.raises(KeyboardInterrupt), replaced(path) as third:
            third.write_text("of the th")
            raise KeyboardInterrupt
        with first.open("a") as file:
            file.write("st")
    assert path.read_text() == "of the first"
    assert set(tmp_path.iterdir()) == {path, *others}


def write_at_once(path, letter, num):
    for _ in range(num):
        with replaced(path, durable=False) as unfinished:
            for _ in range(4):
                with unfinished.open("a") as file:
                    file.write(letter * 1000)


def test_many_writers_at_a_time_leave_nothing_behind(tmp_path):
    path, read = tmp_path / "policy.zip", set()
    writers = [threading.Thread(target=write_at_once, args=(path, x, 100)) for x in "abcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            read.add(path.read_text())
    for writer in writers:
        writer.join()
    assert read <= {letter * 4000 for letter in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys
from pathlib import Path
from jaxdrl.io.safe_files import replaced
with replaced(Path(sys.argv[1])) as unfinished:
    unfinished.write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("error", [None, errno.ENOLCK])
def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path, monkeypatch, error
):
    """Without locks nobody knows which is which, and all of it stays."""
    path = tmp_path / "result.json"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "half"

    def flock(*_):
        raise OSError(error, os.strerror(error))

    if error is not None:
        monkeypatch.setattr(fcntl, "flock", flock)
    with replaced(path) as first:
        write_text(path, "second")
        first.write_text("first")
    assert path.read_text() == "first"
    assert left.exists() == (error is not None)


def test_a_file_that_is_taken_for_abandoned_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    path, lock, removed = tmp_path / "result.json", fcntl.flock, []

    def removed_before(descriptor, kind):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    write_text(path, "new")
    assert path.read_text() == "new" and len(removed) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_not_appended_through_a_link(tmp_path):
    (tmp_path / "foreign").write_text("theirs")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "foreign")
    with pytest.raises(OSError, match="Is a symbolic link"):
        open_to_append(tmp_path / "metrics.jsonl")
    assert (tmp_path / "foreign").read_text() == "theirs"


def test_a_link_in_a_run_directory_is_refused_by_name(tmp_path):
    require_own(tmp_path, tmp_path / "nothing")
    (tmp_path / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(ConfigError) as caught:
        require_own(*tmp_path.iterdir())
    assert str(caught.value).startswith(f"{tmp_path / 'checkpoints'}: is a symbolic link")
