"""A process that is aborted lives a little longer, and knows it."""

import signal
import subprocess
import sys

PROGRAM = """
import ctypes, os, threading, time
from jaxdrl.distributed.aborts import delay_aborts, is_aborting
delay_aborts()
assert not is_aborting()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
deadline = time.monotonic() + 5
while not is_aborting() and time.monotonic() < deadline:
    time.sleep(0.01)
print(is_aborting(), flush=True)
os._exit(75)
"""


def test_another_thread_still_runs_after_an_abort():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True\n", 75)


def test_without_the_delay_an_abort_ends_the_process_at_once():
    program = PROGRAM.replace("\ndelay_aborts()", "")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", -signal.SIGABRT)
