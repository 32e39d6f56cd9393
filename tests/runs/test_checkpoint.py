"""Files of checkpoints: the same bits back, and every damaged or foreign one refused by name."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.algorithms.sharded import STATE_SPECS
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint_arrays import DamagedCheckpointError
from states import NUM_ENVS, abstract_state, bits, make_state

FILES = ("SHA256SUMS", "manifest.json", "state.npz")
MANIFEST = {"config": {"seed": 3}, "progress": {"seconds": 1.5}, "evaluation": None}


def write(directory, update=3, state=None, **more):
    state = make_state() if state is None else state
    arrays, described = checkpoint.to_host(state), checkpoint.describe(state)
    return checkpoint.write(directory, update, arrays, described, MANIFEST | more)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("original"))


@pytest.fixture
def path(original, tmp_path):
    """A checkpoint for one test alone."""
    return Path(shutil.copytree(original, tmp_path / "checkpoints" / original.name))


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


# What is written


@pytest.mark.parametrize("num_devices", [None, 1, 8])
def test_every_bit_comes_back(tmp_path, num_devices):
    state = make_state(num_devices)
    path = write(tmp_path, state=state)
    checkpoint.read_manifest(path)
    loaded = checkpoint.load(path, abstract_state(), "here")
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert bits(loaded) == bits(state)
    assert bits(checkpoint.load(path, state, "here")) == bits(state)


@pytest.mark.parametrize("there", [None, 2, 8])
@pytest.mark.parametrize("here", [None, 1, 4, 8])
def test_a_state_from_one_mesh_is_placed_on_another(tmp_path, here, there):
    state = make_state(there)
    path = write(tmp_path, state=state)
    placed = place(
        checkpoint.load(path, abstract_state(), "here"),
        None if here is None else make_mesh(here),
        STATE_SPECS,
    )
    assert bits(placed) == bits(state)
    for leaf in jax.tree.leaves(placed):
        assert len(leaf.devices()) == (here or 1)
    for leaf in jax.tree.leaves(placed.actor):
        assert leaf.sharding.shard_shape(leaf.shape)[0] == NUM_ENVS // (here or 1)


@pytest.mark.parametrize(
    "state",
    [
        {"a": {"b": jnp.zeros(2)}, "a/b": jnp.ones(3)},
        {"a": [jnp.zeros(2)], "a/0": jnp.zeros(2)},
    ],
    ids=["names", "a name and a place"],
)
def test_two_arrays_of_one_path_are_refused(state):
    with pytest.raises(ConfigError, match="two of its arrays have the same path; do not use / in"):
        checkpoint.to_host(state)


def test_files_do_not_depend_on_the_devices(tmp_path):
    written = [contents(write(tmp_path / str(num), state=make_state(num))) for num in (1, 8)]
    assert written[0] == written[1]


def test_what_is_loaded_is_writeable_and_aligned(original):
    loaded = checkpoint.load(original, abstract_state(), "here")
    arrays = [leaf for leaf in jax.tree.leaves(loaded) if isinstance(leaf, np.ndarray)]
    assert len(arrays) > 10
    assert all(array.flags.writeable and array.flags.aligned for array in arrays)
    before = contents(original)
    for array in arrays:
        array[...] = np.zeros((), array.dtype)
    assert contents(original) == before


def test_loaded_keys_give_the_numbers_of_the_written_ones(original):
    loaded = checkpoint.load(original, abstract_state(), "here")
    draw = jax.vmap(jax.random.uniform)
    np.testing.assert_array_equal(draw(loaded.actor.key), draw(make_state().actor.key))


def test_a_part_under_the_same_paths_is_loaded_alone(original):
    learner = abstract_state().learner
    names = ("params", "obs_statistics", "return_statistics")
    part = {"learner": {name: getattr(learner, name) for name in names}}
    loaded = checkpoint.load(original, part, "here")
    expected = {"learner": {name: getattr(make_state().learner, name) for name in names}}
    assert bits(loaded) == bits(expected)
    assert loaded["learner"]["return_statistics"] is None


def test_numpy_opens_the_state_without_pickle(original):
    state = make_state()
    plain = {"bfloat16": np.uint16}
    with np.load(original / "state.npz", allow_pickle=False) as arrays:
        assert set(arrays) == set(checkpoint.describe(state))
        for name, array in checkpoint.to_host(state).items():
            assert arrays[name].dtype == plain.get(str(array.dtype), array.dtype), name
            assert arrays[name].shape == array.shape, name
            assert arrays[name].tobytes() == array.tobytes(), name
        assert arrays["learner/params/params/dense/kernel"][0].tolist() == [0x7FC1, 0xFFFF, 0x8000]
        assert arrays["actor/key"].shape == (NUM_ENVS, 2)


def test_the_manifest_is_json_that_says_what_the_arrays_are(original):
    manifest = json.loads((original / "manifest.json").read_text())
    arrays = manifest.pop("arrays")
    assert manifest == MANIFEST | {"format_version": 2, "update": 3}
    assert arrays["learner/params/params/dense/kernel"] == ["bfloat16", [2, 3]]
    assert arrays["learner/params/params/empty"] == ["float32", [0, 3]]
    assert arrays["learner/key"] == ["key<fry>", []]
    assert arrays["actor/env_state/history/keys"] == ["key<rbg>", [NUM_ENVS, 2]]
    assert arrays["actor/episode_start"] == ["bool", [NUM_ENVS]]
    assert checkpoint.read_manifest(original) == manifest | {"arrays": arrays}


def test_digests_are_those_of_the_files(original):
    files = contents(original)
    assert sorted(files) == sorted(FILES)
    lines = files["SHA256SUMS"].decode().splitlines()
    digests = dict(
        reversed(re.fullmatch(r"([0-9a-f]{64})  (\S+)", line).groups()) for line in lines
    )
    names = ("manifest.json", "state.npz")
    assert digests == {name: hashlib.sha256(files[name]).hexdigest() for name in names}


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="this system has no sha256sum")
def test_sha256sum_verifies_a_checkpoint(path):
    def verify():
        command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
        return subprocess.run(command, cwd=path, capture_output=True, text=True)

    assert verify().stdout == "manifest.json: OK\nstate.npz: OK\n"
    (path / "state.npz").write_bytes((path / "state.npz").read_bytes()[:-1])
    assert verify().returncode == 1


# What does not fit


def change(where, **fields):
    """`abstract_state()` with fields of its learner or actor replaced."""
    state = abstract_state()
    return replace(state, **{where: replace(getattr(state, where), **fields)})


def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)


def rbg_key():
    return jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))


MISFITS = {
    "shape": (
        lambda: change("actor", obs=shape(NUM_ENVS, 5, dtype=jnp.uint8)),
        "actor/obs is uint8[16, 4] there, uint8[16, 5] here",
    ),
    "rank": (
        lambda: change("learner", num_updates=shape(1, dtype=jnp.int32)),
        "learner/num_updates is int32[] there, int32[1] here",
    ),
    "dtype of the same size": (
        lambda: change("actor", episode_length=shape(NUM_ENVS)),
        "actor/episode_length is int32[16] there, float32[16] here",
    ),
    "kind of key": (
        lambda: change("learner", key=rbg_key()),
        "learner/key is key<fry>[] there, key<rbg>[] here",
    ),
    "key for its data": (
        lambda: change("learner", key=shape(2, dtype=jnp.uint32)),
        "learner/key is key<fry>[] there, uint32[2] here",
    ),
    "missing": (
        lambda: change("learner", return_statistics=shape(2)),
        "learner/return_statistics is missing there, float32[2] here",
    ),
    "superfluous": (
        lambda: change("actor", discounted_return=None),
        "actor/discounted_return is float32[16] there, missing here",
    ),
    "missing from a part": (
        lambda: {"learner": {"params": {"other": shape(2)}}},
        "learner/params/other is missing there, float32[2] here",
    ),
    "shape in a part": (
        lambda: {"learner": {"params": {"params": {"empty": shape(3, 0)}}}},
        "learner/params/params/empty is float32[0, 3] there, float32[3, 0] here",
    ),
}


@pytest.mark.parametrize("make_abstract, words", MISFITS.values(), ids=MISFITS)
def test_a_state_that_does_not_fit_is_refused_before_it_is_opened(
    path, make_abstract, words, monkeypatch
):
    checkpoint.read_manifest(path)
    (path / "state.npz").unlink()
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: pytest.fail("was opened"))
    with pytest.raises(ConfigError) as caught:
        checkpoint.load(path, make_abstract(), "CartPole-v1")
    assert str(caught.value) == f"{path}: does not fit CartPole-v1: {words}"


# Damage


def damage_is_found_in(path, name):
    """Asserts that the checkpoint is refused, naming the file."""
    with pytest.raises(DamagedCheckpointError) as caught:
        checkpoint.read_manifest(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith("; this checkpoint is damaged")
    assert name in message


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_a_flipped_bit_is_refused(path, name):
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), min(100, len(whole)), replace=False):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.integers(8)
        (path / name).write_bytes(flipped)
        damage_is_found_in(path, name)
    (path / name).write_bytes(whole)
    assert checkpoint.read_manifest(path)["update"] == 3


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_early_is_refused(path, name):
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(1)
    positions = rng.choice(len(whole), min(100, len(whole)), replace=False)
    for position in {0, len(whole) - 1, *positions}:
        (path / name).write_bytes(whole[:position])
        damage_is_found_in(path, name)


@pytest.mark.parametrize("more", [b"\0", b"\n", b"x" * 70 + b"\n"], ids=["0", "newline", "line"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_with_more_than_was_written_is_refused(path, name, more):
    with (path / name).open("ab") as file:
        file.write(more)
    damage_is_found_in(path, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(path, name):
    (path / name).unlink()
    damage_is_found_in(path, f"{path / name}: cannot be read (No such file or directory)")
    (path / name).mkdir()
    damage_is_found_in(path, f"{path / name}: cannot be read (Is a directory)")


def test_files_of_two_checkpoints_do_not_make_one(path):
    other = write(path.parent, update=4)
    shutil.copy(other / "manifest.json", path / "manifest.json")
    damage_is_found_in(path, "manifest.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: "",
        lambda lines: lines[:-1],
        lambda lines: lines + "more\n",
        lambda lines: "\n".join(reversed(lines.splitlines())) + "\n",
        lambda lines: lines.splitlines()[1] + "\n",
        lambda lines: lines.upper(),
    ],
)
def test_digests_that_are_none_are_blamed_and_not_the_file_they_are_of(path, change):
    digests = path / "SHA256SUMS"
    digests.write_text(change(digests.read_text()))
    with pytest.raises(
        DamagedCheckpointError, match=rf"^{digests}: does not have a digest of each file"
    ):
        checkpoint.read_manifest(path)


def sign(path):
    """Gives the files the digests that they now have."""
    digests = {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in ("manifest.json", "state.npz")
    }
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    (path / "SHA256SUMS").write_text(lines)


def put_array(path, name, content):
    """Replaces an array in the archive by other bytes of a .npy file, with digests that agree."""
    with zipfile.ZipFile(path / "state.npz") as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[f"{name}.npy"] = content
    with zipfile.ZipFile(path / "state.npz", "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    sign(path)


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), **options)
    return buffer.getvalue()


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def object_array(mark):
    return npy(np.array([Bomb(mark)] * NUM_ENVS, object), allow_pickle=True)


FORGERIES = {
    "another shape": ("actor/episode_return", lambda _: npy(np.zeros((4, 4), np.float32))),
    "a larger shape": ("actor/episode_return", lambda _: npy(np.zeros(17, np.float32))),
    "another dtype": ("actor/episode_return", lambda _: npy(np.zeros(NUM_ENVS, np.int32))),
    "another byte order": ("actor/episode_return", lambda _: npy(np.zeros(NUM_ENVS, ">f4"))),
    "another order": ("actor/obs", lambda _: npy(np.zeros((NUM_ENVS, 4), np.uint8, order="F"))),
    "floats for halves": (
        "learner/params/params/dense/kernel",
        lambda _: npy(np.zeros((2, 3), np.float16)),
    ),
    "key data of another kind": ("actor/key", lambda _: npy(np.zeros((NUM_ENVS, 4), np.uint32))),
    "objects": ("actor/episode_return", object_array),
}


@pytest.mark.parametrize("name, forge", FORGERIES.values(), ids=FORGERIES)
def test_an_array_other_than_the_manifest_says_is_refused(path, name, forge, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    put_array(path, name, forge(mark))
    monkeypatch.setattr(pickle, "load", lambda *args, **options: pytest.fail("unpickled"))
    assert checkpoint.read_manifest(path)["update"] == 3
    with pytest.raises(DamagedCheckpointError) as caught:
        checkpoint.load(path, abstract_state(), "here")
    assert str(caught.value).startswith(f"{path / 'state.npz'}: has {name} as ")
    assert not mark.exists()


def test_an_array_with_the_right_header_is_taken(path):
    """The control of the forgeries above: it is the header that they are refused for."""
    put_array(path, "actor/episode_return", npy(np.full(NUM_ENVS, 2.5, np.float32)))
    checkpoint.read_manifest(path)
    loaded = checkpoint.load(path, abstract_state(), "here")
    assert loaded.actor.episode_return.tolist() == [2.5] * NUM_ENVS


def test_the_bomb_goes_off_where_numpy_may_unpickle(tmp_path):
    """The control of the objects above."""
    np.lib.format.read_array(io.BytesIO(object_array(tmp_path / "mark")), allow_pickle=True)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(("version", "older"), [(3, "newer"), (1, "older")])
def test_another_format_is_refused_with_both_versions(path, version, older):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format_version": version}))
    sign(path)
    with pytest.raises(ConfigError) as caught:
        checkpoint.read_manifest(path)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert str(caught.value) == (
        f"{path}: format_version = {version}, and this version of jaxdrl reads only 2; "
        f"use the {older} jaxdrl that wrote it"
    )


def test_a_checkpoint_under_another_number_is_refused(path):
    path = path.rename(path.with_name("00000099"))
    with pytest.raises(ConfigError) as caught:
        checkpoint.read_manifest(path)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert str(caught.value) == (
        f"{path}: is the checkpoint of update 3 under another number; rename it back"
    )


# The directory


def sound_updates(directory):
    """Updates of the checkpoints, each of which is verified and loaded."""
    for update in checkpoint.updates_in(directory):
        path = checkpoint.path_of(directory, update)
        assert checkpoint.read_manifest(path)["update"] == update
        checkpoint.load(path, abstract_state(), "here")
    return checkpoint.updates_in(directory)


def test_a_checkpoint_has_its_update_for_a_name(tmp_path):
    directory = tmp_path / "run" / "checkpoints"
    assert checkpoint.updates_in(directory) == []
    for update in (10, 9, 1_000_000_000, 200_000_000):
        path = write(directory, update)
        assert path == checkpoint.path_of(directory, update)
    assert {path.name for path in directory.iterdir()} == {
        "00000009",
        "00000010",
        "200000000",
        "1000000000",
    }
    assert sound_updates(directory) == [9, 10, 200_000_000, 1_000_000_000]


def test_another_write_of_an_update_replaces_the_first(tmp_path):
    state = make_state()
    write(tmp_path, 3, state)
    (tmp_path / "00000003" / "notes.txt").write_text("of the first")
    changed = replace(state, learner=replace(state.learner, num_updates=jnp.int32(99)))
    path = write(tmp_path, 3, changed, progress="second")
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]
    assert sorted(contents(path)) == sorted(FILES)
    assert checkpoint.read_manifest(path)["progress"] == "second"
    assert checkpoint.load(path, abstract_state(), "here").learner.num_updates == 99


def test_a_removed_checkpoint_leaves_nothing(tmp_path):
    for update in (1, 2):
        write(tmp_path, update)
    checkpoint.remove(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["00000002"]
    assert sound_updates(tmp_path) == [2]


def test_what_is_half_written_or_half_removed_is_no_checkpoint(tmp_path):
    write(tmp_path, 1)
    for name in (".writing-00000002", ".writing-removed-00000001", ".writing-removed-00000003"):
        shutil.copytree(tmp_path / "00000001", tmp_path / name)
        (tmp_path / name / "state.npz").unlink()
    (tmp_path / "notes.txt").write_text("mine")
    assert sound_updates(tmp_path) == [1]
    checkpoint.remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "notes.txt"]
    assert sound_updates(tmp_path) == [1]
    checkpoint.remove_unfinished(tmp_path / "missing")


def test_leftovers_do_not_stand_in_the_way(tmp_path):
    path = write(tmp_path, 1)
    shutil.copytree(path, tmp_path / ".writing-00000002")
    shutil.copytree(path, tmp_path / ".writing-removed-00000001")
    (tmp_path / ".writing-00000002" / "notes.txt").write_text("of the first")
    assert sorted(contents(write(tmp_path, 2))) == sorted(FILES)
    checkpoint.remove(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["00000002"]
    assert sound_updates(tmp_path) == [2]


@contextlib.contextmanager
def largest_file(size):
    """Makes a write beyond `size` bytes fail, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def failing(monkeypatch, owner, name, call, error):
    """Makes one call of a function raise instead of what it does."""
    function, calls = getattr(owner, name), []

    def fail(*args, **options):
        calls.append(args)
        if len(calls) == call:
            raise error
        return function(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


def full():
    return OSError(28, "No space left on device")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_write_to_a_full_disk_leaves_nothing(tmp_path, share):
    size = (write(tmp_path, 1) / "state.npz").stat().st_size
    before = contents(tmp_path / "00000001")
    with largest_file(int(size * share)), pytest.raises(OSError, match="File too large"):
        write(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    assert contents(tmp_path / "00000001") == before
    write(tmp_path, 2)
    assert sound_updates(tmp_path) == [1, 2]


def step_id(value):
    return value if isinstance(value, str | int) else value.__name__


STEPS = [(os, "fsync", call) for call in (1, 2, 3, 4)] + [(Path, "open", 1), (Path, "mkdir", 1)]


@pytest.mark.parametrize("update", [2, 1], ids=["new", "rewritten"])
@pytest.mark.parametrize("owner, name, call", STEPS, ids=step_id)
def test_a_write_that_fails_leaves_nothing_and_what_was_there(
    tmp_path, monkeypatch, owner, name, call, update
):
    write(tmp_path, 1)
    before = contents(tmp_path / "00000001")
    state = make_state()
    with failing(monkeypatch, owner, name, call, full()), pytest.raises(OSError, match="No space"):
        write(tmp_path, update, state)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    assert contents(tmp_path / "00000001") == before
    write(tmp_path, update, state)
    assert sound_updates(tmp_path) == sorted({1, update})


class Killed(BaseException):
    """Stands in for SIGKILL: no `except` of the library sees it."""


STEPS_OF_A_REWRITE = [
    *((os, "fsync", call) for call in (1, 2, 3, 4, 5)),
    *((checkpoint, "remove_whole", call) for call in (1, 2, 3)),
    *((Path, "rename", call) for call in (1, 2)),
]


@pytest.mark.parametrize("owner, name, call", STEPS_OF_A_REWRITE, ids=step_id)
def test_a_process_killed_at_any_step_leaves_whole_checkpoints(
    tmp_path, monkeypatch, owner, name, call
):
    for update in (1, 2):
        write(tmp_path, update)
    with failing(monkeypatch, owner, name, call, Killed()), pytest.raises(Killed):
        write(tmp_path, 2, progress="second")
    left = sound_updates(tmp_path)
    assert left in ([1], [1, 2])
    checkpoint.remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{u:08d}" for u in left]
    write(tmp_path, 2, progress="third")
    assert sound_updates(tmp_path) == [1, 2]
    assert checkpoint.read_manifest(tmp_path / "00000002")["progress"] == "third"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no names of open files here")
def test_every_file_and_the_directories_are_on_the_disk_before_a_write_ends(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path, 2)
    unfinished = tmp_path / ".writing-00000002"
    files = [str(unfinished / name) for name in ("manifest.json", "state.npz", "SHA256SUMS")]
    assert synced == [*files, str(unfinished), str(tmp_path), str(tmp_path.parent)]
