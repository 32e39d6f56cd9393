"""What is set in JAX before it starts: in processes of their own, since it starts only once."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest

from jaxdrl.distributed.hosts import Hosts
from jaxdrl.errors import ConfigError
from jaxdrl.runs import backend


def run_python(code, **environ):
    """What a fresh process prints, line by line."""
    removed = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS")
    clean = {name: value for name, value in os.environ.items() if name not in removed}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout.splitlines()


def start_with(cores, num_devices, setting="", **environ):
    """`(number of devices, devices of the mesh, words)` on a machine of so many cores."""
    code = f"""
        import jax
        from jaxdrl.runs import backend
        backend.num_cores = lambda: {cores}
        {setting}
        mesh, words = backend.start({num_devices}, 8)
        print(jax.device_count(), mesh.devices.size)
        print(words)
    """
    counts, words = run_python(code, **environ)
    return *map(int, counts.split()), words


@pytest.mark.parametrize(
    ("cores", "asked", "devices", "said"),
    [
        (2, None, 2, "devices: 2 (CPU, one for each of its 2 cores); compiled programs: "),
        (6, None, 4, "devices: 4 (CPU, one for each of 4 of its 6 cores); compiled programs: "),
        (1, None, 1, "devices: 1 (cpu); compiled programs: "),
        (2, 8, 8, "devices: 8 (CPU, simulated on 2 core(s)); compiled programs: "),
    ],
)
def test_cores_become_devices(tmp_path, cores, asked, devices, said):
    available, used, words = start_with(cores, asked, XDG_CACHE_HOME=str(tmp_path))
    assert (available, used) == (devices, devices)
    assert words.startswith(said + str(tmp_path / "jaxdrl"))


def test_what_the_user_set_stays(tmp_path):
    setting = 'jax.config.update("jax_num_cpu_devices", 3)'
    mine = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine"), "XDG_CACHE_HOME": str(tmp_path)}
    available, used, words = start_with(8, None, setting, **mine)
    assert (available, used) == (3, 2)
    assert words == (
        "devices: 2 of 3, the most that divide num_shards = 8 (CPU, one for each of 2 of its "
        f"8 cores); compiled programs: {tmp_path / 'mine'}"
    )
    assert not (tmp_path / "jaxdrl").exists()
    flags = "--xla_force_host_platform_device_count=4"
    assert start_with(8, None, XLA_FLAGS=flags, **mine)[:2] == (4, 4)


def test_cores_that_are_lost_since_jax_had_started_are_said(tmp_path):
    code = """
        import jax, jax.numpy as jnp
        {setting}
        scale = jnp.ones(3)
        from jaxdrl.runs import backend
        backend.num_cores = lambda: 6
        print(backend.start(None, 8)[1])
    """
    said = run_python(code.format(setting=""), XDG_CACHE_HOME=str(tmp_path))
    assert said[0].startswith("devices: 1 (cpu); ")
    (note,) = said[1:]
    assert note.startswith(
        "note: 4 devices would train faster on 6 cores, but JAX had already started"
    )
    line = note.partition("put this line above that: ")[2]
    assert line == 'jax.config.update("jax_num_cpu_devices", 4)'
    (mended,) = run_python(code.format(setting=line), XDG_CACHE_HOME=str(tmp_path))
    assert mended.startswith("devices: 4 (CPU, one for each of 4 of its 6 cores)")


def test_a_program_is_found_again_by_the_next_process(tmp_path):
    code = """
        import jax
        from jaxdrl.runs import backend
        backend.start(1, 8)
        hits = []
        jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
        jax.jit(lambda x: x * 3 + 1)(2.0)
        print(hits.count("/jax/compilation_cache/cache_hits"))
    """
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path)) == ["0"]
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path)) == ["1"]


def test_a_cache_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    assert backend.keep_programs() is None
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_platform_that_is_not_there_is_refused(monkeypatch):
    def devices():
        raise RuntimeError("no such backend")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ConfigError, match=r"JAX found no device: no such backend.*JAX_PLATFORMS"):
        backend.start(None, 8)


@pytest.mark.parametrize(
    ("num_shards", "num_each", "num_processes", "most"),
    [
        (8, 6, 1, 4),
        (8, 100, 1, 8),
        (8, 3, 2, 4),
        (8, 4, 2, 8),
        (8, 1, 8, 8),
        (64, 6, 4, 16),
        (12, 5, 2, 6),
        (12, 5, 3, 12),
        (7, 3, 1, 1),
    ],
)
def test_the_most_devices_divide_the_shards_in_equal_parts(
    num_shards, num_each, num_processes, most
):
    assert backend.most_devices(num_shards, num_each, num_processes) == most
    possible = [
        n * num_processes for n in range(1, num_each + 1) if num_shards % (n * num_processes) == 0
    ]
    assert most == max(possible)


def processes(count):
    return Hosts(names=["a"] * count)


def test_processes_that_can_share_the_shards_are_accepted():
    for count, num_devices in ((1, None), (1, 8), (2, None), (2, 4), (8, 8)):
        assert backend.require_equal_shares(8, num_devices, processes(count), False) is None
    assert backend.require_equal_shares(8, 3, processes(2), True) is None  # only a wish


@pytest.mark.parametrize(
    ("num_shards", "count", "works"),
    [
        (8, 3, "start 1, 2, 4 or 8 processes, or a new run with --num-shards 9"),
        (8, 16, "start 1, 2, 4 or 8 processes, or a new run with --num-shards 16"),
        (1, 2, "start 1 process, or a new run with --num-shards 2"),
    ],
)
@pytest.mark.parametrize("is_wish", [False, True])
def test_processes_that_cannot_share_the_shards_are_refused(num_shards, count, works, is_wish):
    with pytest.raises(ConfigError) as caught:
        backend.require_equal_shares(num_shards, None, processes(count), is_wish)
    why = f"num_shards = {num_shards}: {count} processes cannot share them equally; "
    assert str(caught.value) == why + works


def test_devices_that_processes_cannot_share_are_refused():
    with pytest.raises(ConfigError) as caught:
        backend.require_equal_shares(8, 5, processes(4), False)
    assert str(caught.value) == (
        "devices = 5: is the number in all 4 processes together; must be a multiple of 4, such as 8"
    )


def test_a_wish_for_more_devices_than_there_are_takes_the_most_that_fit(tmp_path):
    code = """
        import jax
        from jaxdrl.runs import backend
        jax.config.update("jax_num_cpu_devices", 6)
        for wanted in (2, 8):
            mesh, words = backend.start(wanted, 8, is_wish=True)
            print(mesh.devices.size, words)
    """
    few, many = run_python(code, XDG_CACHE_HOME=str(tmp_path))
    assert few.startswith("2 devices: 2 (CPU, ")
    assert many.startswith("4 devices: 4 of 6, the most that divide num_shards = 8 (CPU, ")
