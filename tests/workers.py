"""A worker of pytest-xdist that dies fails the run.

Pytest-xdist fails the test that the worker was in. Where it was in none, since it was reading the
files or had done all of them, it says so and ends as if nothing had failed.
"""

import pytest

DIED = pytest.StashKey[bool]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    if error:
        node.config.stash[DIED] = True


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.OK and session.config.stash.get(DIED, False):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
