"""The one writer of a run directory."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import jaxdrl
from jaxdrl.errors import ConfigError
from jaxdrl.runs.locking import claim, writer_of
from jaxdrl.runs.run_dir import require_free

WRITER = """
import sys
import threading
from pathlib import Path
from jaxdrl.errors import ConfigError
from jaxdrl.runs.locking import claim

assert "jax" not in sys.modules
try:
    with claim(Path(sys.argv[1])):
        print("claimed", flush=True)
        sys.stdin.read()
except ConfigError as error:
    print(error, flush=True)
"""


@contextlib.contextmanager
def writer(run_dir):
    """`(process, what it printed)`: another process that claims a directory until it is told."""
    paths = [str(Path(jaxdrl.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run_dir)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def refusal(run_dir, pid):
    return (
        f"run_dir = {str(run_dir)!r}: process {pid} on {socket.gethostname()} is writing to it; "
        "stop that, or name another directory"
    )


def test_a_directory_has_one_writer(tmp_path):
    with writer(tmp_path) as (process, said):
        assert said == "claimed"
        for _ in range(2):
            with pytest.raises(ConfigError) as caught, claim(tmp_path):
                pytest.fail("a second writer")
            assert str(caught.value) == refusal(tmp_path, process.pid)
        process.stdin.close()
        assert process.wait(60) == 0
    with claim(tmp_path):
        pass


def test_a_second_process_is_refused_until_the_end_of_the_block(tmp_path):
    with claim(tmp_path), writer(tmp_path) as (_, said):
        assert said == refusal(tmp_path, os.getpid())
    with writer(tmp_path) as (_, said):
        assert said == "claimed"


def test_a_process_that_was_killed_holds_no_claim(tmp_path):
    with writer(tmp_path) as (process, said):
        assert said == "claimed"
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        (tmp_path / ".lock").write_text("process 123456789012 on a machine with a long name")
        with claim(tmp_path), pytest.raises(ConfigError) as caught, claim(tmp_path):
            pytest.fail("a second writer")
    assert str(caught.value) == refusal(tmp_path, os.getpid())


def test_an_error_in_the_block_ends_the_claim(tmp_path):
    with pytest.raises(KeyError), claim(tmp_path):
        raise KeyError
    with claim(tmp_path):
        pass


def test_a_claim_does_not_make_a_directory_occupied(tmp_path):
    with claim(tmp_path):
        require_free(tmp_path)


def test_removing_the_lock_file_lets_nobody_in(tmp_path):
    with claim(tmp_path) as ours:
        (tmp_path / ".lock").unlink()
        assert writer_of(tmp_path) == "another process"
        with writer(tmp_path) as (_, said):
            assert "is writing to it" in said
        (tmp_path / ".lock").unlink(missing_ok=True)
        ours.check()
        assert writer_of(tmp_path).startswith(f"process {os.getpid()} on ")
        with writer(tmp_path) as (_, said):
            assert said == refusal(tmp_path, os.getpid())
    assert writer_of(tmp_path) is None


def test_a_directory_that_was_removed_is_claimed_anew(tmp_path):
    run_dir = tmp_path / "run"
    with claim(run_dir) as ours:
        shutil.rmtree(run_dir)
        run_dir.mkdir()
        ours.check()
        with writer(run_dir) as (_, said):
            assert said == refusal(run_dir, os.getpid())
        shutil.rmtree(run_dir)
        with writer(run_dir) as (process, said):
            assert said == "claimed"
            with pytest.raises(ConfigError) as caught:
                ours.check()
            assert str(caught.value) == refusal(run_dir, process.pid)


def test_who_only_looks_does_not_keep_a_writer_out(tmp_path):
    with claim(tmp_path):
        pass
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.03, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with claim(tmp_path):
            pass


@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_lock_file_is_refused_by_name(tmp_path, plant):
    plant(tmp_path / ".lock")
    with pytest.raises(ConfigError, match=r"\.lock: cannot be written \(Is a "), claim(tmp_path):
        pytest.fail("claimed")
    assert writer_of(tmp_path) is None


@pytest.mark.parametrize("name", [".lock", "checkpoints", "metrics.jsonl", "profile"])
def test_a_link_in_the_directory_is_refused_and_not_followed(tmp_path, name):
    run_dir, foreign = tmp_path / "run", tmp_path / "foreign"
    run_dir.mkdir()
    foreign.write_text("theirs")
    (run_dir / name).symlink_to(foreign)
    with pytest.raises(ConfigError) as caught, claim(run_dir):
        pytest.fail("claimed")
    assert str(caught.value).startswith(f"{run_dir / name}: is a symbolic link")
    assert foreign.read_text() == "theirs"


# File systems without locks


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_locks(request, monkeypatch):
    def flock(*_):
        number = getattr(errno, request.param)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_a_second_writer_is_noticed_and_it_is_said_once(tmp_path, no_locks):
    warnings = []
    with claim(tmp_path, warnings.append) as ours:
        assert writer_of(tmp_path).startswith(f"process {os.getpid()} on ")
        with pytest.raises(ConfigError) as caught, claim(tmp_path, lambda _: None):
            pytest.fail("a second writer")
        assert str(caught.value).startswith(refusal(tmp_path, os.getpid()))
        assert f"; if it has ended, remove {tmp_path / '.lock'}" in str(caught.value)
        ours.check()
        (tmp_path / ".lock").unlink()
        ours.check()
        assert writer_of(tmp_path).startswith(f"process {os.getpid()} on ")
    assert len(warnings) == 1
    assert "without locks" in warnings[0]
    assert writer_of(tmp_path) is None
    with claim(tmp_path, warnings.append):
        pass


def test_without_locks_a_process_that_took_over_is_found_out(tmp_path, no_locks):
    with claim(tmp_path, lambda _: None) as ours:
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("process 7 on another-host")
        with pytest.raises(ConfigError, match="process 7 on another-host is writing to it"):
            ours.check()
    assert (tmp_path / ".lock").read_text() == "process 7 on another-host"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("process 7 on another-host", True),
        (f"process {2**22 + 5} on {socket.gethostname()}", False),  # above all that Linux gives
        (f"process {os.getpid()} on {socket.gethostname()}, started at tick 1", False),
        ("\x1b[31m nonsense", False),
        ("", False),
    ],
    ids=["another host", "no process", "another process of that number", "nonsense", "nothing"],
)
def test_without_locks_what_a_killed_process_left_is_taken_over(tmp_path, no_locks, text, holds):
    (tmp_path / ".lock").write_text(text)
    assert (writer_of(tmp_path) is not None) == holds
    if holds:
        with pytest.raises(ConfigError), claim(tmp_path, lambda _: None):
            pytest.fail("claimed")
    else:
        with claim(tmp_path, lambda _: None):
            assert writer_of(tmp_path).startswith(f"process {os.getpid()} on ")
