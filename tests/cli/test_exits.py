import io
import os
import subprocess
import sys

import pytest

from jaxdrl.cli.exits import answer
from jaxdrl.errors import ConfigError


def test_a_command_that_leaves_an_actor_behind_ends_at_once():
    script = """
import atexit, threading
from jaxdrl.cli.exits import answer
from jaxdrl.errors import ActorError
threading.Thread(target=threading.Event().wait, name="actor-0", daemon=True).start()
atexit.register(print, "in good order")
def fail():
    raise ActorError("it hangs")
answer(fail)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: it hangs\n")


NOWHERE = """
import sys, tempfile
given = tempfile._candidate_tempdir_list
tempfile._candidate_tempdir_list = lambda: given()[:1]  # TMPDIR alone: others may be writable
from jaxdrl.cli.main import main
for verb in {verbs}:
    try:
        main(verb.split())
    except SystemExit as end:
        print(end.code, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_without_a_temporary_directory_one_sentence_says_what_to_do(kind, tmp_path):
    """The libraries that JAX needs look for one when they are imported."""
    path, verbs = tmp_path / "temporary", ["serve nothing", "train CartPole-v1", "doctor"]
    if kind == "a file":
        path.touch()
    verbs += ["export nothing", "evaluate nothing", "render nothing", "resume nothing"]
    script, env = NOWHERE.format(verbs=verbs), os.environ | {"TMPDIR": str(path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    words = f"error: No usable temporary directory found in ['{path}']; set TMPDIR to a directory"
    assert done.stderr == f"{words} that can be written and has room\n1\n" * len(verbs)
    assert done.stdout == ""
    assert [found.name for found in tmp_path.iterdir()] == ["temporary"] * (kind == "a file")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_last_message_fits_a_terminal_and_is_one_line_elsewhere(is_terminal, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "30")

    def refuse():
        raise ConfigError("a message of several words; do this: jaxdrl resume runs/first")

    with pytest.raises(SystemExit):
        answer(refuse)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "error: a message of several" if is_terminal else len(lines) == 1
    assert lines[-1].endswith("jaxdrl resume runs/first")
