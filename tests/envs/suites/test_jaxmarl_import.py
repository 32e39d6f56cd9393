"""JaxMARL's environments come without what `import jaxmarl` does."""

import subprocess
import sys

import pytest

pytest.importorskip("jaxmarl")

QUIET = """
import sys

import jax
from jaxdrl.envs.suites import registry

suite = registry.load("jaxmarl")
assert "SMAX-3m" in suite.list_tasks()
jax.config.update("jax_num_cpu_devices", 3)  # refused once a backend was started
for task in ("MPE_simple_push_v3", "SMAX-3m"):
    suite.make(task)
assert jax.device_count() == 3
assert "jaxmarl.environments.hanabi" not in sys.modules
"""

THEIRS = """
import jaxdrl

ours = jaxdrl.make("jaxmarl/MPE_simple_spread_v3")
import jaxmarl
import jaxmarl.environments

assert "jaxmarl.environments.hanabi" not in __import__("sys").modules
env = jaxmarl.make("MPE_simple_spread_v3")
assert jaxmarl.__version__ and jaxmarl.environments.mpe.SimpleSpreadMPE is type(env)
assert jaxmarl.environments.Hanabi
try:
    jaxmarl.nothing
except AttributeError:
    print("nothing")
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_prints_nothing_and_leaves_the_choice_of_devices():
    done = run(QUIET)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_jaxmarl_itself_can_be_used_beside():
    """Its own code runs when something else than its environments is asked for."""
    done = run(THEIRS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing\n") and "submoduled" in done.stdout
