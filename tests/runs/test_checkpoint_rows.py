"""Rows of several processes: put together again exactly, and refused wherever they do not fit."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.runs import checkpoint, checkpoint_arrays, checkpoint_rows, finite_states
from jaxdrl.runs.checkpoint_arrays import DamagedCheckpointError
from pretended import split_by
from states import NUM_ENVS, abstract_state, bits, finite_state

NUM = 4
ROWS = [f"rows-{index:05d}.npz" for index in range(NUM)]
FILES = ["manifest.json", "state.npz", *ROWS]


def sign(path, names=FILES):
    """Gives the files the digests that they now have."""
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    (path / "SHA256SUMS").write_bytes(checkpoint.digests_text(digests))


def write(directory, state, monkeypatch, update=3):
    """A checkpoint of four processes with two devices each."""
    split_for = split_by(monkeypatch, NUM)
    with checkpoint.unfinished(directory, update) as where:
        for index, name in enumerate(ROWS):
            parts = split_for(state, index)
            blocks = ((block.entry, np.asarray(block.data)) for block in parts.blocks)
            checkpoint_arrays.write_archive(where / name, blocks)
        whole = ((name, np.asarray(array)) for name, array in parts.whole.items())
        checkpoint_arrays.write_archive(where / "state.npz", whole)
        described = checkpoint.describe(state)
        text = checkpoint.manifest_text(update, described, {"num_processes": NUM})
        (where / "manifest.json").write_bytes(text)
        sign(where)
    return checkpoint.path_of(directory, update)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return write(tmp_path_factory.mktemp("original"), finite_state(8), patch)


@pytest.fixture
def path(original, tmp_path):
    """A checkpoint for one test alone."""
    return Path(shutil.copytree(original, tmp_path / "checkpoints" / original.name))


def load(path):
    checkpoint.read_manifest(path)
    return checkpoint.load(path, abstract_state(), "here")


def test_every_bit_comes_back(original):
    assert bits(load(original)) == bits(finite_state())
    assert bits(finite_states.load(original, abstract_state(), "this")) == bits(finite_state())


def test_rows_are_put_together_whatever_the_order_of_files_and_blocks(path):
    archives = {name: entries(path / name) for name in ROWS}
    for name, other in zip(ROWS, reversed(ROWS), strict=True):
        put(path / name, dict(reversed(archives[other].items())))
    sign(path)
    assert bits(load(path)) == bits(finite_state())


def test_blocks_along_two_axes_are_put_together(tmp_path):
    table = np.arange(24.0).reshape(4, 6)
    blocks = {(0, 0): (2, 2), (0, 2): (2, 4), (2, 0): (2, 5), (2, 5): (1, 1), (3, 5): (1, 1)}
    for process, names in enumerate((list(blocks)[:2], list(blocks)[2:])):
        arrays = (
            (f"a@b@{i},{j}", table[i : i + blocks[i, j][0], j : j + blocks[i, j][1]])
            for i, j in names
        )
        checkpoint_arrays.write_archive(tmp_path / ROWS[process], arrays)
    found = checkpoint_rows.read(tmp_path, ROWS[:2], {"a@b": table})
    np.testing.assert_array_equal(found["a@b"], table)


def test_blocks_that_several_processes_hold_are_one_process_s(monkeypatch):
    mesh = make_mesh(population=2, data=4)
    members = place(np.arange(6.0).reshape(2, 3), mesh, PartitionSpec("population"))
    split_for = split_by(monkeypatch, NUM)
    found = [split_for({"x": members}, index) for index in range(NUM)]
    assert [[block.entry for block in parts.blocks] for parts in found] == [
        ["x@0,0"],
        [],
        ["x@1,0"],
        [],
    ]
    assert [parts.whole for parts in found] == [{}] * NUM


def test_what_is_loaded_is_writeable(path):
    for leaf in jax.tree.leaves(load(path)):
        if isinstance(leaf, np.ndarray):
            leaf[...] = 0


def test_the_learner_alone_is_loaded_without_the_rows(path):
    for name in ROWS:
        (path / name).unlink()
    part = {"learner": {"params": abstract_state().learner.params}}
    loaded = checkpoint.load(path, part, "here")
    assert bits(loaded) == bits({"learner": {"params": finite_state().learner.params}})


def test_only_wanted_rows_are_read(path, monkeypatch):
    opened, read = set(), checkpoint_rows.read_array

    def note(archive, file, name, *rest):
        opened.add(name.split("@")[0])
        return read(archive, file, name, *rest)

    monkeypatch.setattr(checkpoint_rows, "read_array", note)
    part = {"actor": {"obs": abstract_state().actor.obs}}
    loaded = checkpoint.load(path, part, "here")
    assert bits(loaded) == bits({"actor": {"obs": finite_state().actor.obs}})
    assert opened == {"actor/obs"}


def test_a_state_that_does_not_fit_is_refused(path):
    part = {"actor": {"obs": jax.ShapeDtypeStruct((NUM_ENVS, 5), np.uint8)}}
    with pytest.raises(checkpoint.ConfigError, match=r"actor/obs is uint8\[16, 4\] there"):
        checkpoint.load(path, part, "here")


# Damage


def refused(path, *words):
    """Asserts that the checkpoint is refused as damaged, with these words."""
    with pytest.raises(DamagedCheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith("; this checkpoint is damaged")
    for part in words:
        assert part in message


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_a_flipped_bit_in_any_file_is_refused_by_name(path, name):
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), 50, replace=False):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.integers(8)
        (path / name).write_bytes(flipped)
        refused(path, name if name != "SHA256SUMS" else "")
    (path / name).write_bytes(whole)
    load(path)


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_a_missing_or_shorter_file_is_refused_by_name(path, name):
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[:-1])
    refused(path, name)
    (path / name).unlink()
    refused(path, f"{path / name}: cannot be read (No such file or directory)")


def test_rows_of_another_checkpoint_are_refused(path, tmp_path, monkeypatch):
    shutil.copy(path / ROWS[1], path / ROWS[2])
    refused(path, ROWS[2])


@pytest.mark.parametrize(
    "names",
    [
        FILES[:-1],
        FILES[:2],
        [*FILES, "rows-00004.npz"],
        [name for name in FILES if name != ROWS[1]],
        [*FILES[:2], *reversed(ROWS)],
        [*FILES, ROWS[3]],
        [*ROWS, *FILES[:2]],
    ],
)
def test_digests_of_other_files_than_the_manifest_says_are_refused(path, names):
    shutil.copy(path / ROWS[3], path / "rows-00004.npz")
    sign(path, dict.fromkeys(names))
    lines = (path / "SHA256SUMS").read_text().splitlines()
    lines += [lines[-1]] * (len(names) - len(lines))
    (path / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))
    refused(path, f"{path / 'SHA256SUMS'}: does not have a digest of each file")


def test_rows_beside_a_manifest_of_one_process_are_refused(path):
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["num_processes"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    sign(path)
    refused(path, "SHA256SUMS: does not have a digest of each file")
    sign(path, FILES[:2])
    refused(path, f"{path / 'state.npz'}: is not an archive of these arrays")


# Files with digests that agree


def entries(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put(file, content):
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def forge(path, name, change):
    """Changes the entries of a file of rows, and signs them."""
    content = entries(path / name)
    change(content)
    put(path / name, content)
    sign(path)


def move(content, old, new):
    content[new] = content.pop(old)


OBS = "actor/obs@4,0.npy"
NOT_ONCE = "its files do not have every number of actor/obs exactly once"
FORGERIES = {
    "missing": (lambda c: c.pop(OBS), NOT_ONCE),
    "elsewhere": (lambda c: move(c, OBS, "actor/obs@14,0.npy"), NOT_ONCE),
    "overlapping": (lambda c: move(c, OBS, "actor/obs@3,0.npy"), NOT_ONCE),
    "twice": (lambda c: c.update({"actor/obs@8,0.npy": c[OBS]}), NOT_ONCE),
    "beyond the end": (lambda c: move(c, OBS, "actor/obs@15,0.npy"), f"{ROWS[1]}: has actor/obs"),
    "of another rank": (lambda c: move(c, OBS, "actor/obs@4.npy"), f"{ROWS[1]}: has actor/obs@4"),
    "of a huge start": (
        lambda c: move(c, OBS, f"actor/obs@{'9' * 18},0.npy"),
        f"{ROWS[1]}: has actor/obs",
    ),
    "of no number": (
        lambda c: move(c, OBS, "actor/obs@x,0.npy"),
        f"{ROWS[1]}: has actor/obs@x,0.npy, which is not a part of an array",
    ),
    "of a longer number": (
        lambda c: move(c, OBS, f"actor/obs@{'0' * 5000},0.npy"),
        "which is not a part of an array",
    ),
    "of no start": (
        lambda c: move(c, OBS, "actor/obs.npy"),
        f"{ROWS[1]}: has actor/obs.npy, which is not a part of an array",
    ),
    "of another dtype": (
        lambda c: c.update({OBS: c["actor/episode_return@4.npy"]}),
        f"{ROWS[1]}: has actor/obs@4,0 as float32[2]",
    ),
    "cut short": (
        lambda c: c.update({OBS: c[OBS][:-1]}),
        f"{ROWS[1]}: is not an archive of these arrays",
    ),
    "no array": (
        lambda c: c.update({OBS: b"hello"}),
        f"{ROWS[1]}: is not an archive of these arrays",
    ),
}


@pytest.mark.parametrize("change, words", FORGERIES.values(), ids=FORGERIES)
def test_blocks_that_do_not_cover_their_array_once_are_refused(path, change, words):
    forge(path, ROWS[1], change)
    refused(path, words)


def test_the_control_of_the_forgeries_is_taken(path):
    forge(path, ROWS[1], lambda content: None)
    assert bits(load(path)) == bits(finite_state())


def test_a_file_that_is_no_archive_is_refused(path):
    (path / ROWS[2]).write_bytes(b"hello")
    sign(path)
    refused(path, f"{path / ROWS[2]}: is not an archive of these arrays")


@pytest.mark.parametrize("name", ["state.npz", ROWS[2]])
@pytest.mark.parametrize(
    ("field", "size"), [(10, 2), (42, 4), (8, 2)], ids=["compression", "offset", "flags"]
)
def test_an_archive_with_a_forged_directory_is_refused(path, name, field, size):
    content = bytearray((path / name).read_bytes())
    where = content.index(b"PK\x01\x02") + field
    content[where : where + size] = b"\xf7" * size
    (path / name).write_bytes(content)
    sign(path)
    refused(path, f"{path / name}: is not an archive of these arrays")
