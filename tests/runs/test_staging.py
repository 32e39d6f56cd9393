"""Large replay buffers in checkpoints: written before the next step, and never there twice."""

import errno
import json
import os
import tracemalloc
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.distributed import spread
from jaxdrl.runs import checkpoint, staging
from jaxdrl.runs.checkpoint_arrays import Archive, Staged
from jaxdrl.runs.checkpoint_manager import Saver
from states import NUM_ENVS, bits, finite_state, with_replay

LARGE, SMALL = "actor/replay/obs", "actor/replay/position"


@pytest.fixture(autouse=True)
def staged_from(monkeypatch):
    monkeypatch.setattr(staging, "STAGED_BYTES", 2**10)
    monkeypatch.setattr(spread, "PIECE_BYTES", 2**8)


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def saver(tmp_path, warnings):
    with Saver(
        tmp_path / "checkpoints", {}, every=1, minutes=None, keep=9, warn=warnings.append
    ) as saver:
        yield saver


@pytest.fixture(params=[None, 8])
def state(request):
    return with_replay(finite_state(request.param))


def donate(state):
    """Changes all numbers in place but those of random keys."""
    old = [leaf for leaf in jax.tree.leaves(state) if leaf.size]

    def change(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        return ~x if x.dtype == bool else x + jnp.ones((), x.dtype)

    jax.block_until_ready(jax.jit(lambda s: jax.tree.map(change, s), donate_argnums=0)(state))
    assert all(leaf.is_deleted() for leaf in old)


def names_in(path):
    return sorted(file.name for file in path.iterdir())


def expected(rows=50):
    return bits(with_replay(finite_state(), rows))


def test_a_state_is_saved_as_it_was_before_it_was_donated(saver, state):
    abstract = jax.eval_shape(lambda: state)
    taken = saver.take(3, state)
    donate(state)
    saver.save(3, taken, {})
    saver.wait()
    path = checkpoint.path_of(saver.directory, 3)
    assert names_in(saver.directory) == [path.name]
    assert names_in(path) == ["SHA256SUMS", "manifest.json", "state.npz"]
    checkpoint.read_manifest(path)
    assert bits(checkpoint.load(path, abstract, "here")) == expected()
    with np.load(path / "state.npz", allow_pickle=False) as arrays:
        assert arrays[LARGE].shape == (NUM_ENVS, 50, 2)
        assert arrays[LARGE].dtype == np.float32


def test_what_is_large_is_not_copied(saver, state):
    leaves = checkpoint.named_leaves(saver.take(1, state))
    assert {name for name, leaf in leaves.items() if isinstance(leaf, Staged)} == {
        LARGE,
        "actor/replay/half",
    }
    kept = checkpoint.named_leaves(staging.to_copy(state))
    assert set(leaves) - set(kept) == {LARGE, "actor/replay/half"}
    small = replace(state, actor=replace(state.actor, replay=()))
    assert not any(isinstance(leaf, Staged) for leaf in jax.tree.leaves(saver.take(2, small)))


def test_it_takes_the_memory_of_a_few_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "PIECE_BYTES", 2**18)
    state = with_replay(finite_state(), rows=2**16)
    size, archives = state.actor.replay["obs"].nbytes, [Archive(tmp_path / "x") for _ in range(2)]
    staging.take(state, archives[0])  # compiles
    archives[0].abandon()
    tracemalloc.start()
    staging.take(state, archives[1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    archives[1].abandon()
    assert size == 2**23
    assert peak < 4 * 2**18


def test_reading_takes_the_memory_of_what_is_read(saver, monkeypatch):
    def manifest_of(path, works):  # without a buffer for the largest one
        return json.loads(path.read_bytes())

    monkeypatch.setattr(checkpoint, "read_object", manifest_of)
    monkeypatch.setattr(spread, "PIECE_BYTES", 2**18)
    state = with_replay(finite_state(), rows=2**16)
    saver.save(1, saver.take(1, state), {})
    saver.wait()
    path, size = checkpoint.path_of(saver.directory, 1), state.actor.replay["obs"].nbytes
    abstract = jax.eval_shape(lambda: state)
    tracemalloc.start()
    loaded = checkpoint.load(path, abstract, "here")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bits(loaded) == expected(2**16)
    assert size < peak < 1.6 * size


def test_what_is_not_saved_in_the_end_leaves_nothing(saver, state, warnings):
    saver.take(1, state)
    assert len(names_in(saver.directory)) == 1
    saver.drop()
    assert names_in(saver.directory) == []
    saver.save(2, saver.take(2, state), {})
    saver.wait()
    saver.take(3, state)
    saver.__exit__()
    assert names_in(saver.directory) == ["00000002"]
    assert warnings == []


def test_what_a_killed_process_left_is_removed(tmp_path, state):
    saver = Saver(tmp_path, {}, every=1, minutes=None, keep=9, warn=print)
    taken = saver.take(1, state)
    assert len(names_in(tmp_path)) == 1
    checkpoint.remove_unfinished(tmp_path)
    assert names_in(tmp_path) == []
    del taken
    saver.drop()


@pytest.mark.parametrize("when", ["the large arrays", "the rest"])
def test_a_full_disk_is_reported_and_leaves_nothing(saver, state, warnings, monkeypatch, when):
    add = Archive.add

    def fail(archive, name, array):
        add(archive, name, array)
        if (name == LARGE) == (when == "the large arrays"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "add", fail)
        saver.save(1, saver.take(1, state), {})
        saver.wait()
    assert names_in(saver.directory) == []
    (warning,) = warnings
    assert warning == (
        "the checkpoint of update 1 was not written (No space left on device); training continues, "
        "and there is none yet"
    )
    saver.save(2, saver.take(2, state), {})
    saver.wait()
    assert names_in(saver.directory) == ["00000002"]


def test_a_state_that_is_not_finite_leaves_nothing(saver, state, warnings):
    learner = replace(state.learner, params={"w": jnp.array([jnp.nan])})
    saver.save(1, saver.take(1, replace(state, learner=learner)), {})
    saver.wait()
    assert names_in(saver.directory) == []
    assert "learner/params/w holds NaN or infinity" in warnings[0]


def test_a_directory_that_lies_elsewhere_is_not_written_to(saver, state, tmp_path, warnings):
    (tmp_path / "foreign").mkdir()
    saver.directory.symlink_to(tmp_path / "foreign")
    saver.save(1, saver.take(1, state), {})
    saver.wait()
    assert names_in(tmp_path / "foreign") == []
    assert "its directory is a symbolic link" in warnings[0]
