"""When checkpoints are written, which are kept, and which one a run goes on with."""

import errno
import functools
import os
import threading
from concurrent.futures import wait
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxdrl.algorithms.sharded import STATE_SPECS
from jaxdrl.core.types import ActorState, LearnerState, TrainState
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint, checkpoint_manager, checkpoint_rows, joint_save, staging
from jaxdrl.runs.checkpoint_arrays import DamagedCheckpointError
from jaxdrl.runs.checkpoint_manager import Saver, choose
from jaxdrl.runs.checkpoint_scores import read_scores
from pretended import pretended_hosts, split_by, together

NUM_ENVS = 8


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 1e6

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpoint_manager, "time", clock)
    return clock


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def saver_of(tmp_path, warnings):
    """Makes savers of one directory, whose threads end with the test."""
    savers = []

    def make(*, every=1, minutes=None, keep=2):
        saver = Saver(
            tmp_path, {"seed": 3}, every=every, minutes=minutes, keep=keep, warn=warnings.append
        )
        savers.append(saver)
        return saver

    yield make
    for saver in savers:
        saver.executor.shutdown()


def make_state(update=0, mesh=None):
    per_env = jnp.arange(NUM_ENVS, dtype=jnp.float32)
    learner = LearnerState(
        params={"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16)},
        opt_state=(jnp.int32(4), jnp.zeros((0, 2))),
        obs_statistics=None,
        return_statistics=None,
        key=jax.random.key(7),
        num_updates=jnp.int32(update),
    )
    actor = ActorState(
        env_state={"x": per_env[:, None], "keys": jax.random.split(jax.random.key(2), NUM_ENVS)},
        obs=per_env.astype(jnp.int32),
        carry=(),
        key=jax.random.split(jax.random.key(1), NUM_ENVS),
        episode_start=per_env > 3.0,
        episode_return=per_env,
        episode_length=per_env.astype(jnp.int32),
        discounted_return=per_env,
    )
    return place(TrainState(learner, actor), mesh, STATE_SPECS)


@functools.cache
def small_state():
    return {"learner": {"num_updates": jnp.int32(5)}}


def save(saver, update, score=None):
    """Saves a small state after `update`, and waits until it is written."""
    evaluation = None if score is None else {"mean_return": score, "num_episodes": 4}
    saver.save(update, small_state(), {"seconds": update / 2}, evaluation)
    saver.wait()


def bits(state):
    return {name: array.tobytes() for name, array in checkpoint.to_host(state).items()}


def damage(directory, update, name="state.npz"):
    """Flips a bit of a checkpoint."""
    file = checkpoint.path_of(directory, update) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file


# The schedule


def saved_by(saver, clock, updates, seconds):
    """Updates after which a saver wants a checkpoint, where each takes some seconds."""
    saved = []
    for update in updates:
        clock.now += seconds
        if saver.is_due(update):
            save(saver, update)
            saved.append(update)
    return saved


@pytest.mark.parametrize(
    "every, minutes, seconds, expected",
    [
        (1, None, 1000.0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (3, None, 0.0, [3, 6, 9]),
        (10, None, 0.0, [10]),
        (11, None, 1000.0, []),
        (None, 1.0, 20.0, [3, 6, 9]),
        (None, 1.0, 19.9, [4, 8]),
        (None, 0.5, 30.0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (None, None, 1000.0, []),
        (4, 1.0, 20.0, [3, 4, 7, 8]),
    ],
)
def test_checkpoints_are_due_by_updates_and_by_minutes(
    saver_of, clock, every, minutes, seconds, expected
):
    saver = saver_of(every=every, minutes=minutes)
    assert saved_by(saver, clock, range(1, 11), seconds) == expected


def test_a_resumed_run_keeps_the_schedule(saver_of, clock):
    save(saver_of(), 6)
    assert saved_by(saver_of(every=3), clock, range(7, 13), 0.0) == [9, 12]
    clock.now += 1000.0
    assert saved_by(saver_of(every=None, minutes=1.0), clock, range(13, 17), 20.0) == [15]


def test_nothing_is_due_while_the_last_checkpoint_is_written(saver_of, clock, monkeypatch):
    go_on, write = threading.Event(), checkpoint.write

    def wait_and_write(*args):
        assert go_on.wait(60)
        return write(*args)

    monkeypatch.setattr(checkpoint, "write", wait_and_write)
    saver = saver_of(every=2, minutes=1.0)
    saver.save(2, small_state(), {})
    clock.now += 1000.0
    assert [saver.is_due(update) for update in (3, 4, 6)] == [False] * 3
    go_on.set()
    saver.wait()
    assert saver.is_due(3)
    save(saver, 3)
    assert not saver.is_due(3)
    assert saver.is_due(4)


def test_a_checkpoint_that_fell_into_a_write_comes_after_it(saver_of, monkeypatch):
    go_on, write = threading.Event(), checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *args: (go_on.wait(60), write(*args)))
    saver = saver_of(every=4)
    saver.save(4, small_state(), {})
    assert not saver.is_due(8)
    go_on.set()
    saver.wait()
    assert [saver.is_due(update) for update in (4, 5, 7)] == [False] * 3
    assert [saver.is_due(update) for update in (8, 9)] == [True] * 2
    save(saver, 9)
    assert [saver.is_due(update) for update in (10, 11, 12)] == [False, False, True]


def test_checkpoints_are_written_one_after_another_in_another_thread(saver_of, monkeypatch):
    events, write = [], checkpoint.write

    def note(directory, update, *rest):
        events.append((update, threading.current_thread() is threading.main_thread()))
        write(directory, update, *rest)
        events.append((update, "end"))

    monkeypatch.setattr(checkpoint, "write", note)
    saver = saver_of(keep=5)
    for update in (1, 2, 3):
        saver.save(update, small_state(), {})
    saver.wait()
    assert events == [(u, event) for u in (1, 2, 3) for event in (False, "end")]


def test_the_end_of_the_block_waits_for_the_last_write(saver_of, tmp_path, monkeypatch):
    go_on, write = threading.Event(), checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *args: (go_on.wait(60), write(*args)))
    with saver_of() as saver:
        saver.save(1, small_state(), {})
        assert checkpoint.updates_in(tmp_path) == []
        threading.Timer(0.05, go_on.set).start()
    assert checkpoint.updates_in(tmp_path) == [1]


# What is kept


def test_the_last_ones_and_the_best_are_on_the_disk(saver_of, tmp_path):
    saver = saver_of(keep=2)
    scores = {1: None, 2: 5.0, 3: None, 4: 3.0, 5: None, 6: 8.0, 7: None, 8: 8.0, 9: None, 10: None}
    there = []
    for update, score in scores.items():
        save(saver, update, score)
        there.append(checkpoint.updates_in(tmp_path))
        assert saver.last_update == update
        assert read_scores(tmp_path) == saver.scores
    assert there == [
        [1],
        [1, 2],
        [2, 3],
        [2, 3, 4],
        [2, 4, 5],
        [5, 6],
        [6, 7],
        [6, 7, 8],
        [6, 8, 9],
        [6, 9, 10],
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "scores, score, best",
    [
        ({}, -9.0, True),
        ({1: None}, -9.0, True),
        ({1: None, 2: 3.0}, 3.0, False),
        ({1: None, 2: 3.0}, 3.5, True),
        ({1: 4.0, 2: 3.0}, 3.5, False),
    ],
)
def test_the_best_is_better_than_all_that_are_kept(saver_of, scores, score, best):
    saver = saver_of(keep=5)
    for update, earlier in scores.items():
        save(saver, update, earlier)
    assert saver.is_best(score) is best
    assert saver_of(keep=5).is_best(score) is best


def test_a_new_saver_takes_up_what_is_on_the_disk(saver_of, tmp_path):
    first = saver_of(keep=2)
    for update, score in {1: 9.0, 2: None, 3: 4.0, 4: 5.0}.items():
        save(first, update, score)
    second = saver_of(keep=2)
    assert second.scores == {1: 9.0, 3: 4.0, 4: 5.0} == first.scores
    assert second.last_update == 4
    save(second, 5, 10.0)
    assert checkpoint.updates_in(tmp_path) == [4, 5]


def test_a_damaged_checkpoint_counts_for_nothing(saver_of, tmp_path):
    first = saver_of(keep=3)
    for update, score in {1: 3.0, 2: 9.0, 3: 4.0}.items():
        save(first, update, score)
    damage(tmp_path, 2)
    damage(tmp_path, 3, "manifest.json")
    second = saver_of(keep=3)
    assert second.scores == read_scores(tmp_path) == {1: 3.0}
    assert second.last_update == 1
    assert second.is_best(3.5)


def test_a_manifest_says_how_the_run_stood(saver_of, tmp_path):
    save(saver_of(), 4, 2.5)
    manifest = checkpoint.read_manifest(checkpoint.path_of(tmp_path, 4))
    assert (manifest["update"], manifest["config"]) == (4, {"seed": 3})
    assert manifest["progress"] == {"seconds": 2.0}
    assert manifest["evaluation"] == {"mean_return": 2.5, "num_episodes": 4}


# The copy


@functools.partial(jax.jit, donate_argnums=0)
def step(state):
    def change(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return x if is_key else (~x if x.dtype == bool else x + jnp.ones((), x.dtype))

    return jax.tree.map(change, state)


@pytest.mark.parametrize("num_devices", [None, 8])
def test_a_copy_outlives_the_donation_of_the_state(saver_of, tmp_path, num_devices):
    mesh = None if num_devices is None else make_mesh(num_devices)
    state = make_state(6, mesh)
    # Not of this very state: a view of it on the host would keep it from being donated.
    abstract, expected = jax.eval_shape(lambda: make_state(6)), bits(make_state(6))
    snapshot = staging.copy(state)
    for ours, theirs in zip(jax.tree.leaves(snapshot), jax.tree.leaves(state), strict=True):
        assert ours.sharding.is_equivalent_to(theirs.sharding, ours.ndim)
    donated = jax.tree.leaves(state)
    state = step(state)
    assert all(leaf.is_deleted() for leaf in donated if leaf.size)
    saver = saver_of()
    saver.save(6, snapshot, {})
    for _ in range(3):
        state = step(state)
    saver.wait()
    loaded = checkpoint.load(checkpoint.path_of(tmp_path, 6), abstract, "here")
    assert bits(loaded) == bits(snapshot) == expected
    assert int(state.learner.num_updates) == 10


# A write that fails


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full while `disk.is_full`."""

    class Disk:
        is_full = False

    fsync, disk = os.fsync, Disk()

    def sync(descriptor):
        if disk.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    return disk


def test_a_write_that_fails_is_reported_and_training_goes_on(saver_of, disk, tmp_path, warnings):
    with saver_of(keep=2) as saver:
        save(saver, 1)
        save(saver, 2, 7.0)
        disk.is_full = True
        for update in (4, 6):
            save(saver, update, 9.0)
            (warning,) = warnings  # one an outage
            assert "update 4 was not written (No space left on device)" in warning
            assert "training continues" in warning
            assert warning.endswith("2 is the last")
            assert (saver.last_update, saver.scores) == (2, {1: None, 2: 7.0})
            assert saver.is_best(8.0)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]
        disk.is_full = False
        save(saver, 8)
        save(saver, 10)
        assert warnings[1:] == ["checkpoints can be written again: that of update 8 is"]
        disk.is_full = True
        save(saver, 12)
        assert "update 12 was not written" in warnings[2]
        save(saver, 14)
    assert warnings[3:] == [
        "the last 2 checkpoints were not written; that of update 10 is the last"
    ]
    assert saver.last_update == 10
    assert read_scores(tmp_path) == {2: 7.0, 8: None, 10: None}


def test_a_state_that_is_not_finite_is_not_written(saver_of, tmp_path, warnings):
    saver = saver_of()
    save(saver, 1)
    params = {"bias": jnp.array([1.0, jnp.nan])}
    state = {"learner": {**small_state()["learner"], "params": params}}
    saver.save(2, state, {})
    saver.wait()
    assert warnings == [
        "the checkpoint of update 2 was not written (learner/params/bias holds NaN or infinity); "
        "training continues, and that of update 1 is the last"
    ]
    assert checkpoint.updates_in(tmp_path) == [1]


def test_a_first_write_that_fails_says_that_none_is_there(saver_of, disk, tmp_path, warnings):
    saver = saver_of()
    disk.is_full = True
    save(saver, 2)
    (warning,) = warnings
    assert "update 2 was not written (No space left on device)" in warning
    assert warning.endswith("there is none yet")
    assert saver.last_update is None
    assert checkpoint.updates_in(tmp_path) == []


def test_after_a_write_that_failed_the_schedule_waits_for_the_next_turn(saver_of, disk, clock):
    saver = saver_of(every=3, minutes=1.0)
    disk.is_full = True
    assert saved_by(saver, clock, range(1, 10), 5.0) == [3, 6, 9]


def test_an_error_of_another_kind_is_not_swallowed(saver_of, monkeypatch, warnings):
    def fail(*args):
        raise ValueError("a bug")

    monkeypatch.setattr(checkpoint, "write", fail)
    saver = saver_of()
    saver.check()
    saver.save(1, small_state(), {})
    wait([saver.writing])
    with pytest.raises(ValueError, match="a bug"):
        saver.check()  # which training calls after each update
    with pytest.raises(ValueError, match="a bug"):
        saver.save(2, small_state(), {})
    with pytest.raises(ValueError, match="a bug"):
        saver.wait()
    assert warnings == []


# The choice


@pytest.fixture
def directory(saver_of, tmp_path):
    """Checkpoints of updates 2 (the best by evaluation), 4, 6 and 10."""
    saver = saver_of(keep=9)
    for update, score in {2: 9.0, 4: None, 6: 5.0, 10: None}.items():
        save(saver, update, score)
    return tmp_path


@pytest.mark.parametrize("wanted, update", [(None, 10), ("best", 2), (2, 2), (6, 6), (10, 10)])
def test_a_checkpoint_is_chosen(directory, warnings, wanted, update):
    path, manifest = choose(directory, wanted, warnings.append)
    assert path == directory / f"{update:08d}"
    assert manifest == checkpoint.read_manifest(path)
    assert manifest["update"] == update
    assert warnings == []


@pytest.mark.parametrize(
    "damaged, wanted, update, num_reports",
    [
        ([10], None, 6, 1),
        ([6, 10], None, 4, 2),
        ([4], None, 10, 0),
        ([4, 10], None, 6, 1),
        ([2], "best", 6, 0),
        ([10], 6, 6, 0),
    ],
)
def test_damaged_ones_are_passed_over_and_reported(
    directory, warnings, damaged, wanted, update, num_reports
):
    files = {there: damage(directory, there) for there in damaged}
    path, manifest = choose(directory, wanted, warnings.append)
    assert (path, manifest["update"]) == (directory / f"{update:08d}", update)
    reported = sorted(damaged, reverse=True)[:num_reports]
    assert len(warnings) == num_reports
    for there, warning in zip(reported, warnings, strict=True):
        assert str(files[there]) in warning
        assert "damaged" in warning


def test_a_damaged_one_that_was_asked_for_is_refused(directory, warnings):
    file = damage(directory, 6, "manifest.json")
    with pytest.raises(DamagedCheckpointError) as caught:
        choose(directory, 6, warnings.append)
    assert str(file) in str(caught.value)
    assert str(caught.value).endswith("; beside it there are those of updates 2, 4, 10")
    assert warnings == []


def test_where_all_are_damaged_each_is_reported(directory, warnings):
    files = [damage(directory, update) for update in (10, 6, 4, 2)]
    with pytest.raises(DamagedCheckpointError) as caught:
        choose(directory, None, warnings.append)
    assert str(caught.value).startswith(f"{directory}: every checkpoint in it is damaged; ")
    assert len(warnings) == 4
    assert all(str(file) in warning for file, warning in zip(files, warnings, strict=True))


@pytest.mark.parametrize("wanted", [3, 0, -2, "6", "last"])
def test_an_unknown_one_is_refused_naming_those_there_are(directory, warnings, wanted):
    with pytest.raises(ConfigError) as caught:
        choose(directory, wanted, warnings.append)
    assert str(caught.value) == (
        f"checkpoint = {wanted!r}: not in {directory}; it has those of updates 2, 4, 6, 10"
    )


@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_without_checkpoints_is_refused(tmp_path, warnings, exists):
    directory = tmp_path / "checkpoints"
    if exists:
        (directory / ".writing-00000003").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r": holds no checkpoint, .* starts it again$") as caught:
        choose(directory, None, warnings.append)
    assert str(caught.value).startswith(str(directory))
    for wanted in (3, "best"):
        words = rf"^checkpoint = {wanted!r}: .* in .*; it has none$"
        with pytest.raises(ConfigError, match=words):
            choose(directory, wanted, warnings.append)


def test_without_an_evaluation_there_is_no_best(saver_of, tmp_path, warnings):
    saver = saver_of()
    for update in (3, 4):
        save(saver, update)
    with pytest.raises(ConfigError) as caught:
        choose(tmp_path, "best", warnings.append)
    assert str(caught.value) == (
        f"checkpoint = 'best': no evaluation in {tmp_path}; it has those of updates 3, 4"
    )


def test_one_of_a_newer_format_is_not_passed_over(directory, warnings, monkeypatch):
    arrays = {"a": np.zeros(1)}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT_VERSION", 3)
        checkpoint.write(directory, 12, arrays, {"a": ["float64", [1]]}, {"evaluation": None})
    with pytest.raises(ConfigError, match=r"format_version = 3, .* reads only 2"):
        choose(directory, None, warnings.append)
    assert warnings == []


# Several processes


class Savers:
    """The savers of four processes; a save or the end of one happens in all of them."""

    def __init__(self, tmp_path, monkeypatch, keep=2):
        self.warnings = [[] for _ in range(4)]
        self.owners, split = {}, split_by(monkeypatch)
        monkeypatch.setattr(
            checkpoint_rows, "split", lambda state: split(state, self.owners[id(state)])
        )
        self.savers = together(
            *(
                functools.partial(
                    Saver,
                    tmp_path,
                    {"seed": 3},
                    every=1,
                    minutes=None,
                    keep=keep,
                    warn=warnings.append,
                    hosts=hosts,
                )
                for hosts, warnings in zip(pretended_hosts(), self.warnings, strict=True)
            )
        )

    def save(self, update, score=None, state=None):
        state = make_state(update, make_mesh(8)) if state is None else state
        evaluation = None if score is None else {"mean_return": score, "num_episodes": 4}
        snapshots = [replace(state) for _ in self.savers]
        self.owners = {id(snapshot): index for index, snapshot in enumerate(snapshots)}
        for index, saver in enumerate(self.savers):
            figures = ({"seconds": 1.0}, evaluation) if index == 0 else ({}, None)
            saver.save(update, snapshots[index], *figures)
        for saver in self.savers:
            saver.wait()

    def last_updates(self):
        return [saver.last_update for saver in self.savers]

    def end(self):
        for saver in self.savers:
            saver.__exit__()


@pytest.fixture
def savers_of(tmp_path, monkeypatch):
    made = []

    def make():
        made.append(Savers(tmp_path, monkeypatch))
        return made[-1]

    yield make
    for savers in made:
        savers.end()


def test_process_0_alone_decides_which_checkpoints_of_several_are_kept(savers_of, tmp_path):
    savers, there = savers_of(), []
    assert savers.last_updates() == [None] * 4
    for update, score in {1: None, 2: 5.0, 3: None, 4: 3.0, 5: None}.items():
        savers.save(update, score)
        there.append(checkpoint.updates_in(tmp_path))
        assert savers.last_updates() == [update] * 4
    assert there == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5]]
    assert read_scores(tmp_path) == savers.savers[0].scores == {2: 5.0, 4: 3.0, 5: None}
    assert [saver.scores for saver in savers.savers[1:]] == [{}] * 3
    manifest = checkpoint.read_manifest(checkpoint.path_of(tmp_path, 4))
    assert (manifest["config"], manifest["progress"]) == ({"seed": 3}, {"seconds": 1.0})
    loaded = checkpoint.load(checkpoint.path_of(tmp_path, 4), make_state(), "here")
    assert bits(loaded) == bits(make_state(4))
    again = savers_of()
    assert again.last_updates() == [5] * 4
    again.save(5, 4.0)  # which it has already
    assert read_scores(tmp_path) == {2: 5.0, 4: 3.0, 5: 4.0}
    assert savers.warnings == again.warnings == [[]] * 4


def test_a_write_that_fails_in_one_process_is_reported_by_process_0(
    savers_of, tmp_path, monkeypatch
):
    savers, write_archive = savers_of(), joint_save.write_archive
    savers.save(1, 3.0)

    def fail(path, arrays, begun=None):
        if path.name == "rows-00002.npz":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_archive(path, arrays, begun)

    with monkeypatch.context() as patch:
        patch.setattr(joint_save, "write_archive", fail)
        for update in (2, 3):
            savers.save(update, 9.0)
            assert savers.last_updates() == [1] * 4
            assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    savers.save(3)
    assert savers.last_updates() == [3] * 4
    where = tmp_path / ".writing-00000002"
    assert savers.warnings == [
        [
            f"the checkpoint of update 2 was not written (process 2 on host b: {where}: No space "
            "left on device); training continues, and that of update 1 is the last",
            "checkpoints can be written again: that of update 3 is",
        ],
        *([[]] * 3),
    ]


def test_a_state_of_several_processes_that_is_not_finite_is_not_written(savers_of, tmp_path):
    savers, state = savers_of(), make_state(2, make_mesh(8))
    savers.save(1)
    params = place({"w": jnp.float32(np.nan)}, make_mesh(8), PartitionSpec())
    savers.save(2, state=replace(state, learner=replace(state.learner, params=params)))
    assert savers.last_updates() == [1] * 4
    assert savers.warnings[0] == [
        "the checkpoint of update 2 was not written (learner/params/w holds NaN or infinity); "
        "training continues, and that of update 1 is the last"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
