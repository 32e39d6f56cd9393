"""Checkpoints that several processes write: as good as that of one, or none at all."""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import threading
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.runs import checkpoint, joint_save
from jaxdrl.runs.checkpoint_rows import Block, Parts
from jaxdrl.runs.joint_save import NotFiniteError
from pretended import Killed, pretended_hosts, split_by, together
from states import abstract_state, bits, finite_state

MANIFEST = {"config": {"seed": 3}, "evaluation": None}
ROWS = [f"rows-{index:05d}.npz" for index in range(4)]


@pytest.fixture
def split(monkeypatch):
    monkeypatch.setattr(joint_save, "SEEN_SECONDS", 0.3)
    return split_by(monkeypatch)


@pytest.fixture
def save(split):
    """Saves a state from four processes; returns what became of it in each."""

    def save(directory, update=3, state=None, prepare=list, directories=None, lost=None):
        state = finite_state(8) if state is None else state
        hosts = pretended_hosts(lost=lost)
        where = directories or [directory] * 4
        described = checkpoint.describe(state)
        parts = [split(state, index) for index in range(4)]
        return together(
            partial(
                joint_save.write,
                *(hosts[0], "key", where[0], update, parts[0], described, MANIFEST, prepare),
            ),
            *(
                partial(joint_save.join, hosts[i], "key", where[i], update, parts[i])
                for i in (1, 2, 3)
            ),
        )

    return save


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_four_processes_write_is_what_one_writes(save, tmp_path):
    assert save(tmp_path) == [None, True, True, True]
    path = tmp_path / "00000003"
    assert names_in(tmp_path) == [path.name]
    manifest = checkpoint.read_manifest(path)
    assert manifest["num_processes"] == 4
    state = finite_state()
    arrays, described = checkpoint.to_host(state), checkpoint.describe(state)
    alone = checkpoint.write(tmp_path / "alone", 3, arrays, described, MANIFEST)
    assert manifest == checkpoint.read_manifest(alone) | {"num_processes": 4}
    loaded, expected = (checkpoint.load(p, abstract_state(), "here") for p in (path, alone))
    assert bits(loaded) == bits(expected) == bits(state)


def test_each_file_has_what_its_process_holds(save, tmp_path):
    save(tmp_path)
    path = tmp_path / "00000003"
    assert names_in(path) == sorted(["SHA256SUMS", "manifest.json", "state.npz", *ROWS])
    with np.load(path / "state.npz", allow_pickle=False) as arrays:
        assert {name.split("/")[0] for name in arrays} == {"learner"}
    obs = np.asarray(finite_state().actor.obs)
    for index, name in enumerate(ROWS):
        first = 4 * index
        with np.load(path / name, allow_pickle=False) as arrays:
            assert all(re.fullmatch(rf"actor/\S+@({first}|{first + 2})(,0)*", a) for a in arrays)
            rows = [arrays[f"actor/obs@{start},0"] for start in (first, first + 2)]
            np.testing.assert_array_equal(np.concatenate(rows), obs[first : first + 4])


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="this system has no sha256sum")
def test_sha256sum_verifies_all_files(save, tmp_path):
    save(tmp_path)
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    found = subprocess.run(command, cwd=tmp_path / "00000003", capture_output=True, text=True)
    names = ["manifest.json", "state.npz", *ROWS]
    assert found.stdout == "".join(f"{name}: OK\n" for name in names)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no names of open files here")
def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(save, tmp_path, monkeypatch):
    synced, fsync, rename = [], os.fsync, Path.rename

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_name(path, target):
        renamed = rename(path, target)
        synced.append(str(target))
        return renamed

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", note_name)
    save(tmp_path)
    unfinished = tmp_path / ".writing-00000003"
    archives = {str(unfinished / name) for name in ("state.npz", *ROWS)}
    assert set(synced[:5]) == archives
    rest = [unfinished / "manifest.json", unfinished / "SHA256SUMS", unfinished]
    last = [tmp_path / "00000003", tmp_path, tmp_path.parent]
    assert synced[5:] == [str(path) for path in rest + last]


def test_an_earlier_checkpoint_of_the_update_is_replaced(save, tmp_path):
    save(tmp_path)
    state = finite_state(8)
    changed = replace(state, actor=replace(state.actor, obs=state.actor.obs + 1))
    assert save(tmp_path, state=changed) == [None, True, True, True]
    assert names_in(tmp_path) == ["00000003"]
    loaded = checkpoint.load(tmp_path / "00000003", abstract_state(), "here")
    assert bits(loaded) == bits(changed)


# What fails


@contextlib.contextmanager
def full_disk(monkeypatch, name):
    """Within the block no file of this name can be written to its end."""
    write_archive = joint_save.write_archive

    def write(path, arrays, begun=None):
        digest = write_archive(path, arrays, begun)
        if path.name == name:
            raise OSError(28, "No space left on device")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(joint_save, "write_archive", write)
        yield


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("state.npz", ""),
        ("rows-00000.npz", ""),
        ("rows-00001.npz", "process 1 on host b: "),
        ("rows-00003.npz", "process 3 on host c: "),
    ],
)
def test_a_full_disk_of_any_process_leaves_nothing(save, tmp_path, monkeypatch, name, who):
    save(tmp_path, 2)
    with full_disk(monkeypatch, name):
        error, *others = save(tmp_path)
    assert isinstance(error, OSError)
    unfinished = tmp_path / ".writing-00000003"
    assert str(error).endswith(f"{who}{unfinished}: No space left on device" if who else "device")
    assert others == [False] * 3
    assert names_in(tmp_path) == ["00000002"]
    assert checkpoint.read_manifest(tmp_path / "00000002")["update"] == 2
    assert save(tmp_path) == [None, True, True, True]


def test_an_error_before_anything_is_written_is_said_to_all(save, tmp_path):
    def prepare():
        raise OSError(30, "Read-only file system")

    error, *others = save(tmp_path, prepare=prepare)
    assert (str(error), others) == ("[Errno 30] Read-only file system", [False] * 3)
    assert names_in(tmp_path) == []
    (tmp_path / "file").write_text("")
    error, *others = save(tmp_path / "file")
    assert (type(error), others) == (NotADirectoryError, [False] * 3)


def test_another_error_of_a_process_is_its_own_and_named(save, tmp_path, monkeypatch):
    write_rows = joint_save._write_rows

    def fail(path, parts):
        if path.name == ROWS[2]:
            raise ZeroDivisionError("oh")
        return write_rows(path, parts)

    monkeypatch.setattr(joint_save, "_write_rows", fail)
    error, *others = save(tmp_path)
    assert str(error) == "process 2 on host b: ZeroDivisionError('oh')"
    assert [type(other) for other in others] == [bool, ZeroDivisionError, bool]
    assert names_in(tmp_path) == []


def test_a_process_that_does_not_see_the_directory_is_named(save, tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    error, *others = save(here, directories=[here, here, here, elsewhere])
    assert str(error) == (
        f"process 3 on host c does not see {elsewhere / '.writing-00000003'}; "
        "the run directory must be on a disk that all hosts share"
    )
    assert others == [False] * 3
    assert names_in(here) == []
    assert not elsewhere.exists()


def test_a_process_that_writes_elsewhere_is_named(save, tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    (elsewhere / ".writing-00000003").mkdir(parents=True)
    error, *_ = save(here, directories=[here, here, elsewhere, here])
    assert str(error) == (
        f"{here / '.writing-00000003' / ROWS[2]} of process 2 on host b is not seen by "
        "process 0 on host a; the run directory must be on a disk that all hosts share"
    )
    assert names_in(here) == []


def test_a_directory_may_take_a_while_to_be_seen(split, save, tmp_path, monkeypatch):
    write_rows, attempts = joint_save._write_rows, []

    def late(path, parts):
        attempts.append(path.name)
        if path.name == ROWS[1] and attempts.count(ROWS[1]) == 1:
            raise FileNotFoundError(2, "No such file or directory")
        return write_rows(path, parts)

    monkeypatch.setattr(joint_save, "_write_rows", late)
    assert save(tmp_path) == [None, True, True, True]
    assert sorted(attempts) == sorted([*ROWS, ROWS[1]])


KILLS = [(os, "fsync", call) for call in range(1, 9)]
KILLS += [(Path, "rename", 1), (Path, "mkdir", 1), (joint_save, "_write_rows", 1)]


@pytest.mark.parametrize("owner, name, call", KILLS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_kill_at_any_step_leaves_no_half_checkpoint(
    save, tmp_path, monkeypatch, owner, name, call
):
    save(tmp_path, 2)
    function, calls, lost = getattr(owner, name), [], threading.Event()

    def kill(*args, **options):
        calls.append(args)
        if len(calls) >= call:
            lost.set()
            raise Killed
        return function(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, kill)
        results = save(tmp_path, lost=lost)
    assert isinstance(results[0], Killed)
    assert checkpoint.updates_in(tmp_path) == [2]
    checkpoint.remove_unfinished(tmp_path)
    assert names_in(tmp_path) == ["00000002"]
    assert save(tmp_path) == [None, True, True, True]
    assert checkpoint.read_manifest(tmp_path / "00000003")["update"] == 3


# What is not finite


def population(values, num_updates=None):
    """A state of 8 members, one on each device, with a parameter each."""
    params = {"w": jnp.zeros((8, 3)).at[:, 1].set(jnp.asarray(values, jnp.float32))}
    updates = jnp.full(8, 5) if num_updates is None else num_updates
    specs = PartitionSpec("data")
    return place({"learner": {"num_updates": updates, "params": params}}, make_mesh(8), specs)


def test_a_population_is_written_while_one_member_is_finite(save, tmp_path):
    values = [np.nan, np.inf, np.nan, np.nan, np.nan, 1.0, np.nan, -np.inf]
    assert save(tmp_path, state=population(values)) == [None, True, True, True]
    values[5] = np.inf
    error, *others = save(tmp_path, 4, population(values))
    assert isinstance(error, NotFiniteError)
    assert str(error) == "learner/params/w holds NaN or infinity"
    assert others == [False] * 3
    assert names_in(tmp_path) == ["00000003"]


def test_members_are_told_apart_in_rows_that_all_have_and_in_those_of_one(save, tmp_path):
    state = population([0.0] * 4 + [np.nan] * 4)
    whole = jnp.where(jnp.arange(8) < 4, jnp.nan, 1.0)
    state["learner"]["params"]["b"] = place(whole, make_mesh(8), PartitionSpec())
    assert isinstance(save(tmp_path, state=state)[0], NotFiniteError)
    state["learner"]["params"]["b"] = place(whole.at[2].set(0.0), make_mesh(8), PartitionSpec())
    assert save(tmp_path, state=state) == [None, True, True, True]


def test_one_agent_is_refused_before_anything_is_written(save, tmp_path):
    state = finite_state(8)
    bias = jnp.array([1.0, jnp.nan])
    learner = replace(state.learner, params={"bias": place(bias, make_mesh(8), PartitionSpec())})
    error, *others = save(tmp_path, state=replace(state, learner=learner), prepare=pytest.fail)
    assert str(error) == "learner/params/bias holds NaN or infinity"
    assert others == [False] * 3
    assert names_in(tmp_path) == []


# Memory


class OnDevice:
    """A block that has to be copied to the host, as from a GPU."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array.copy()


def test_a_save_takes_less_memory_than_twice_the_rows(tmp_path):
    rows = [np.full((4, 2**20), index, np.float32) for index in range(4)]
    blocks = [Block("actor/obs", (4 * i, 0), OnDevice(x)) for i, x in enumerate(rows)]
    tracemalloc.start()
    try:
        report = joint_save._write_rows(tmp_path / "rows.npz", Parts({}, blocks, None))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    num_bytes = sum(array.nbytes for array in rows)
    assert num_bytes < report["num_bytes"] < 1.001 * num_bytes
    assert peak < num_bytes
    content = (tmp_path / "rows.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == report["sha256"]
    with np.load(tmp_path / "rows.npz") as arrays:
        for index, array in enumerate(rows):
            np.testing.assert_array_equal(arrays[f"actor/obs@{4 * index},0"], array)
