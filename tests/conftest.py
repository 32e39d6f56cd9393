"""Every test runs on eight simulated devices, under JAX's strict modes."""

import gc
import signal
from pathlib import Path

import jax
import pytest
from jax._src import compiler
from jax.experimental.compilation_cache import compilation_cache

import quickly
from workers import pytest_sessionfinish, pytest_testnodedown  # noqa: F401

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

gc.set_threshold(50_000, 20, 50)  # tracing makes many objects that stay

LONGEST = (
    "algorithms/test_device_invariance",
    "test_notebooks",
    "experiments/test_benchmark",
    "test_docs",
    "sweeps/test_driver",
    "algorithms/ppo/test_algorithm",
    "experiments/test_learning",
    "populations/test_sweep_algorithm",
    "runs/test_runs_on_devices",
    "experiments/test_learning_table",
    "envs/contract/test_check",
    "runs/test_train_run",
    "networks/test_recurrent",
    "experiments/test_faults",
    "populations/test_population_bits",
)
"""The files that take longest."""


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no worker is left with one when the others are done."""
    tests = Path(__file__).parent
    places = {tests / f"{name}.py": place for place, name in enumerate(LONGEST)}
    assert all(path.exists() for path in places)
    items.sort(key=lambda item: places.get(item.path, len(places)))


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


@pytest.fixture(scope="module", autouse=True)
def compiler_effort(request):
    """Compiles quickly, since most programs here run for less time than they compile.

    Equal bits are promised under the users' compiler flags alone: a file that compares bits of
    different programs says `FULLY_OPTIMIZED = True`.
    """
    quick = not getattr(request.module, "FULLY_OPTIMIZED", False)
    jax.config.update("jax_disable_most_optimizations", quick)
    with pytest.MonkeyPatch.context() as patch:
        if quick:
            patch.setattr(compiler, "get_compile_options", with_quick_flags)
        yield


given_options = compiler.get_compile_options


def with_quick_flags(*args, **kwargs):
    """Compile options with flags that no setting of JAX reaches, and `XLA_FLAGS` sets for good."""
    options = given_options(*args, **kwargs)
    options.env_option_overrides += quickly.FLAGS.items()
    return options


@pytest.fixture
def no_compile():
    """Fails the test with the first program that is compiled, single operations excepted."""

    def refuse(event, seconds, fun_name="", **_):
        name = fun_name.removeprefix("jit(").removesuffix(")")
        is_operation = hasattr(jax.lax, name) or hasattr(jax.numpy, name)
        if event == "/jax/core/compile/backend_compile_duration" and not is_operation:
            pytest.fail(f"compiled {fun_name} in {seconds:.1f} s")

    jax.monitoring.register_event_duration_secs_listener(refuse)
    yield
    jax.monitoring.unregister_event_duration_listener(refuse)


@pytest.fixture(scope="module")
def compile_cache(tmp_path_factory):
    """Programs that were compiled once in a file that uses this are not compiled again."""
    assert jax.device_count() == 8  # before a run asks for less
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in settings}
    for values in (settings, before):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if values is settings:
            yield
    compilation_cache.reset_cache()
