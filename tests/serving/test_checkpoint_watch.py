"""Looking at checkpoints again and again: each is verified once, and refused once."""

import os
import shutil

import numpy as np
import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint_scores import accept
from jaxdrl.serving.checkpoint_watch import MAX_SAID, CheckpointWatch


def write(directory, update, mean_return=None, run_id="ours"):
    array = np.full(3, update, np.float32)
    evaluation = None if mean_return is None else {"mean_return": mean_return}
    manifest = {"config": {"run_id": run_id}, "progress": {}, "evaluation": evaluation}
    described = {"x": ["float32", [3]]}
    return checkpoint.write(directory, update, {"x": array}, described, manifest)


def flip(path):
    content = bytearray((path / "state.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "state.npz").write_bytes(bytes(content))


def look(watch):
    candidate, refusals = watch.look()
    return (None if candidate is None else candidate.update), refusals


def test_the_last_valid_one_is_found_and_each_damage_is_said_once(tmp_path):
    watch = CheckpointWatch(tmp_path, None, accept)
    assert look(watch) == (None, [])
    write(tmp_path, 1)
    assert look(watch) == (1, [])
    flip(write(tmp_path, 2))
    found, (words,) = look(watch)
    assert found == 1 and "00000002/state.npz" in words and "is damaged" in words
    assert look(watch) == (1, [])
    write(tmp_path, 2)  # put right
    assert look(watch) == (2, [])
    flip(tmp_path / "00000002")
    assert look(watch)[0] == 1  # it is noticed that the files have changed


def test_a_verified_checkpoint_is_not_read_again(tmp_path, monkeypatch):
    for update in (1, 2, 3):
        write(tmp_path, update, mean_return=update % 3)
    watch, reads = CheckpointWatch(tmp_path, "best", accept), []
    original = checkpoint.read_manifest
    monkeypatch.setattr(
        checkpoint, "read_manifest", lambda path: (reads.append(path.name), original(path))[1]
    )
    for _ in range(3):
        assert look(watch) == (2, [])
    assert sorted(reads) == ["00000001", "00000002", "00000003"]


def test_the_best_and_a_fixed_one(tmp_path):
    for update, score in {1: 5.0, 2: 9.0, 3: None, 4: 7.0}.items():
        write(tmp_path, update, score)
    assert look(CheckpointWatch(tmp_path, "best", accept)) == (2, [])
    assert look(CheckpointWatch(tmp_path, 3, accept)) == (3, [])
    assert look(CheckpointWatch(tmp_path, 9, accept)) == (None, [])
    flip(tmp_path / "00000002")
    best, refusals = look(CheckpointWatch(tmp_path, "best", accept))
    assert best == 4 and len(refusals) == 1


def foreign(path, manifest):
    if manifest["config"]["run_id"] != "ours":
        raise ConfigError(f"{path}: is a checkpoint of another run")


def unreadable(path, manifest):
    raise RecursionError("too deep")


@pytest.mark.parametrize(("check", "words"), [(foreign, "another run"), (unreadable, "too deep")])
def test_what_the_check_refuses_is_passed_over(tmp_path, check, words):
    write(tmp_path, 1)
    write(tmp_path, 2, run_id="theirs")
    watch = CheckpointWatch(tmp_path, None, check)
    found, refusals = look(watch)
    assert found == (1 if check is foreign else None) and words in refusals[0]
    assert look(watch) == (found, [])


def put_file(path):
    path.write_bytes(b"not a directory")


def put_empty(path):
    path.mkdir()


def put_fifo(path):
    path.mkdir()
    os.mkfifo(path / "SHA256SUMS")


def put_loop(path):
    path.symlink_to(path)


def put_renamed(path):
    shutil.copytree(path.with_name("00000001"), path)


@pytest.mark.parametrize("put", [put_file, put_empty, put_fifo, put_loop, put_renamed])
def test_foreign_things_under_the_name_of_a_checkpoint(tmp_path, put):
    write(tmp_path, 1)
    put(tmp_path / "00000002")
    (tmp_path / "notes").mkdir()  # no name of a checkpoint
    (tmp_path / ".writing-00000003").mkdir()
    watch = CheckpointWatch(tmp_path, None, accept)
    found, refusals = look(watch)
    assert found == 1 and len(refusals) == 1 and "00000002" in refusals[0]
    assert look(watch) == (1, [])


def test_what_is_replaced_while_it_is_read_is_looked_at_again(tmp_path, monkeypatch):
    write(tmp_path, 1)
    path = write(tmp_path, 2)
    watch, original = CheckpointWatch(tmp_path, None, accept), checkpoint.read_manifest

    def replaced_meanwhile(where):
        if where == path:
            monkeypatch.setattr(checkpoint, "read_manifest", original)
            checkpoint.remove(tmp_path, 2)
        return original(where)

    monkeypatch.setattr(checkpoint, "read_manifest", replaced_meanwhile)
    assert look(watch) == (1, [])  # nothing is said of what is gone
    monkeypatch.setattr(checkpoint, "updates_in", lambda directory: [1, 2])
    assert look(watch) == (1, [])
    candidate, _ = watch.look()
    assert watch.is_unchanged(candidate)
    flip(candidate.path)
    assert not watch.is_unchanged(candidate)


def test_what_could_not_be_used_is_refused_once_until_it_is_written_anew(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    watch = CheckpointWatch(tmp_path, None, accept)
    candidate, _ = watch.look()
    assert watch.refuse(candidate, "does not fit") == ["does not fit"]
    assert look(watch) == (1, [])
    write(tmp_path, 2)
    candidate, _ = watch.look()
    assert candidate.update == 2
    assert watch.refuse(candidate, "does not fit") == ["does not fit"]


def test_what_is_remembered_has_an_end(tmp_path):
    watch = CheckpointWatch(tmp_path, None, accept)
    watch.said = {update: {"why"} for update in range(MAX_SAID + 1)}
    flip(write(tmp_path, 1))
    assert len(look(watch)[1]) == 1
    assert len(watch.said) < MAX_SAID
