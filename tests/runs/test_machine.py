"""What machine this is, and what on it is set up badly."""

import contextlib
import os
import time

import jax
import pytest

from jaxdrl.runs import machine

GOOD = {"platform": "cpu", "cores": 10_000}


def test_the_description_has_what_is_to_be_known():
    facts = machine.describe()
    assert facts["num_devices"] == 8
    assert facts["platform"] == "cpu"
    assert facts["cores"] >= 1
    assert facts["free_host_memory"] > 2**20
    assert isinstance(facts["processor"], str)
    assert set(machine.PACKAGES) < set(machine.versions())


@pytest.fixture
def sound(monkeypatch):
    """A machine on which all is well, whatever the one that tests run on."""
    monkeypatch.setenv("PATH", "")  # of programs, nvidia-smi among them
    monkeypatch.setattr(machine, "requires", lambda _: [])
    with setting("jax_disable_most_optimizations", False):
        yield


@contextlib.contextmanager
def setting(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    yield
    jax.config.update(name, before)


def test_a_sound_machine_has_no_complaints(sound):
    assert machine.complaints(GOOD, {}) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("jax_disable_jit", True, "unset JAX_DISABLE_JIT"),
        ("jax_enable_x64", True, "unset JAX_ENABLE_X64"),
        ("jax_debug_nans", True, "unset JAX_DEBUG_NANS"),
        ("jax_enable_compilation_cache", False, "unset JAX_ENABLE_COMPILATION_CACHE"),
    ],
)
def test_slow_settings_are_named_with_the_way_back(sound, name, value, words):
    with setting(name, value):
        (complaint,) = machine.complaints(GOOD, {})
    assert words in complaint


def test_compiler_flags_and_few_cores_are_named(sound, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    found = machine.complaints(GOOD | {"cores": 2}, {"XLA_FLAGS": "--fast"})
    assert found == [
        "XLA_FLAGS = '--fast': not the compiler settings that were tested",
        "this process may use 2 of 4 cores",
    ]


def test_a_gpu_that_is_not_used_is_named(sound, monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'No devices were found'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.complaints(GOOD, {}) == []
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100'\n")
    (complaint,) = machine.complaints(GOOD, {})
    assert "pip install 'jaxdrl[cuda12]'" in complaint
    assert machine.complaints(GOOD | {"platform": "gpu"}, {}) == []


def test_an_untested_version_is_named(monkeypatch):
    installed = {"jax": "0.12.1", "numpy": "2.2.0"}
    monkeypatch.setattr(machine, "requires", lambda _: ["jax<0.12", "numpy>=2", "ruff; extra=='x'"])
    monkeypatch.setattr(machine, "version", lambda name: installed[name])
    with setting("jax_disable_most_optimizations", False):
        found = machine.complaints(GOOD, {})
    assert "jax 0.12.1 was not tested: install jax<0.12" in found


def cpu_times(path, cores):
    """What the kernel would say: `(user, nice, system, idle, iowait, irq, softirq, steal)`."""
    lines = ["cpu  1 2 3 4", *(f"cpu{i} {' '.join(map(str, t))} 0 0" for i, t in cores.items())]
    path.write_text("\n".join([*lines, "intr 5"]))


def test_cores_that_others_keep_busy_are_counted(tmp_path, monkeypatch):
    stat, tick = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)
    cpu_times(stat, {0: (0,) * 8, 1: (0,) * 8, 2: (0,) * 8})

    def work(seconds):  # core 1 is not ours; idle and waiting for disks is no work
        cpu_times(
            stat, {0: (tick, 0, tick, 9, 9, 0, 0, 0), 1: (99 * tick,) * 8, 2: (0, tick, *[0] * 6)}
        )

    monkeypatch.setattr(time, "sleep", work)
    clocks = {"perf_counter": iter([0.0, 2.0]), "process_time": iter([5.0, 6.0])}
    for name, times in clocks.items():
        monkeypatch.setattr(time, name, lambda times=times: next(times))
    # Three seconds of work in two seconds, of which one is our own.
    assert machine.busy_cores(2.0, stat) == 1.0


def test_a_busy_machine_is_named_and_a_quiet_one_is_not():
    (line,) = machine.busy_complaints(1.26, cores=2)
    assert line.startswith("other processes keep 1.3 of 2 cores busy: the speeds measured now are")
    assert machine.busy_complaints(0.19, cores=2) == machine.busy_complaints(None) == []


def test_where_nobody_counts_the_work_it_is_not_known(tmp_path):
    assert machine.busy_cores(0.0, tmp_path / "missing") is None
    (tmp_path / "stat").write_text("cpu words")
    assert machine.busy_cores(0.0, tmp_path / "stat") is None
