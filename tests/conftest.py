"""One session runs the files that compile quickly, or those that compile as users do.

Which ones says `--compile`. Without it that is the kind of the files that are named, and where
there are both, or none is named, those that compile quickly.
"""

import gc
import signal
from pathlib import Path

import pytest

import quickly
from workers import pytest_sessionfinish, pytest_testnodedown  # noqa: F401

gc.set_threshold(50_000, 20, 50)  # tracing makes many objects that stay

LONGEST = (
    "test_docs",
    "test_notebooks",
    "algorithms/test_device_invariance",
    "algorithms/test_fast_mode",
    "algorithms/ppo/test_algorithm",
    "experiments/test_benchmark",
    "populations/test_population_bits",
    "networks/test_recurrent",
    "runs/test_train_run",
    "runs/test_asynchronous_runs",
    "test_runs_of_hosts",
    "algorithms/ppo/test_reference",
    "algorithms/test_dqn",
    "algorithms/test_twin_critics",
    "test_own_algorithm",
    "sweeps/test_driver",
    "experiments/test_learning_table",
    "populations/test_sweep_algorithm",
    "populations/test_replay_members",
    "runs/test_runs_on_devices",
    "runs/test_trackers",
    "runs/test_replay_runs",
    "algorithms/test_seam",
    "experiments/test_faults",
    "algorithms/test_agent",
    "algorithms/test_impala",
    "test_run_control",
    "algorithms/test_pqn",
    "cli/test_main",
    "experiments/test_learning",
    "envs/contract/test_check",
    "test_wrong_values",
    "test_workers",
)
"""The files that take longest."""


TESTS = Path(__file__).parent
LEFT_OUT = pytest.StashKey[list[Path]]()
"""Files that are selected and of the other kind."""


def pytest_addoption(parser):
    parser.addoption(
        "--compile",
        choices=("quickly", "fully"),
        help="run the files that compile quickly, or those that compile as users do",
    )


def pytest_configure(config):
    """Sets the flags of the compiler before jax is imported, here and in each worker."""
    given = [Path(config.invocation_params.dir, arg.split("::")[0]) for arg in config.args]
    roots = [path.resolve() for path in given]
    files = sorted(TESTS.rglob("test_*.py"))
    chosen = [path for path in files if any(path.is_relative_to(root) for root in roots)]
    kind, config.stash[LEFT_OUT] = quickly.choose(chosen, config.option.compile)
    if kind == "quickly":
        quickly.turn_on()
    config.pluginmanager.import_plugin("jax_modes")


def pytest_ignore_collect(collection_path, config):
    return True if collection_path in config.stash[LEFT_OUT] else None


def pytest_collection_modifyitems(config, items):
    """The longest files come first, so that no worker is left with one when the others are done."""
    left_out = [item for item in items if item.path in config.stash[LEFT_OUT]]  # named ones
    config.hook.pytest_deselected(items=left_out)
    places = {TESTS / f"{name}.py": place for place, name in enumerate(LONGEST)}
    assert all(path.exists() for path in places)
    items[:] = sorted(
        (item for item in items if item not in left_out),
        key=lambda item: places.get(item.path, len(places)),
    )


def pytest_terminal_summary(terminalreporter, config):
    """Without `--compile`, what was left out is named with how it is run."""
    if config.option.compile is None and config.stash[LEFT_OUT]:
        names = sorted(str(path.relative_to(TESTS)) for path in config.stash[LEFT_OUT])
        terminalreporter.line(
            f"Left out, since they compile as users do: {', '.join(names)}. "
            "They run by themselves, or all of them with --compile=fully.",
            yellow=True,
        )


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory):
    """Compiled programs that runs keep go to a directory of this session, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache_home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def usual_signals():
    """Tests that send signals start from what a terminal gives, also under nohup."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
