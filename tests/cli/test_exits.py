import subprocess
import sys


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
