"""The strict modes of JAX that every test runs under, on eight simulated devices, and fixtures.

A plugin of pytest: tests/conftest.py imports it when the flags of the compiler are set.
"""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


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
